package projector

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/journal"
)

// progress is how far a runner is, as its Status tells it. The runner's goroutine alone changes
// where the runner is; anybody may read.
type progress struct {
	account *Account
	backlog Backlog // nil: there is none
	metrics *metrics
	now     func() time.Time
	batch   uint64          // a runner that is further behind than so many records is catching up
	idle    context.Context // ends when the runner is to drain or to stop

	// journal is what the journal told when it was last asked, a second ago, nil before that: asking
	// costs a round trip. end is its last record, or where it turned out to end meanwhile.
	journal atomic.Pointer[journal.State]
	end     atomic.Uint64

	mu     sync.Mutex // guards what follows
	status Status
	oldest time.Time // about when the first record that is not applied was made; zero: not known
}

// current returns the status.
func (p *progress) current() Status {
	p.mu.Lock()
	s := p.status
	p.mu.Unlock()
	s.Failing = s.State == StateFailing
	s.Losses = p.account.Losses()
	if p.backlog != nil {
		b := p.backlog.Backlog()
		s.Backlog, s.Losses = b.Records, s.Losses.plus(b.Losses)
	}
	s.Gaps = append([]Gap{}, s.Gaps...) // never null
	return s
}

// applied is the last record applied, or known to be lost.
func (p *progress) applied() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.Applied
}

// position is what the projection said may be saved.
func (p *progress) position() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status.Position
}

// behind is how many records the journal is known to have that are not applied.
func (p *progress) behind() uint64 {
	applied := p.applied()
	return max(p.end.Load(), applied) - applied
}

// left is how many records the backlog has left, and the oldest of them.
func (p *progress) left() (records, from uint64) {
	if p.backlog == nil {
		return 0, 0
	}
	b := p.backlog.Backlog()
	return b.Records, b.From
}

// begin notes that the runner goes on after seq. since is about when the next record was made;
// zero: not known.
func (p *progress) begin(seq uint64, since time.Time) {
	p.advance(func(s *Status) {
		s.Applied, s.Position = seq, seq
		p.oldest = since
	})
}

// done notes that records up to seq are applied, the newest of them made at the time made (zero:
// not known), and the position that the projection said.
func (p *progress) done(seq, position uint64, made time.Time) {
	p.advance(func(s *Status) {
		s.Applied = seq
		s.Position = max(s.Position, min(position, seq))
		if !made.IsZero() {
			s.AppliedTime = made.UTC()
			p.oldest = made // about: the next is not read yet
		}
	})
}

// pass leaves records up to seq behind. The position goes along unless the projection holds it
// back.
func (p *progress) pass(seq uint64) {
	p.advance(func(s *Status) {
		if s.Position == s.Applied {
			s.Position = seq
		}
		s.Applied = seq
	})
}

// move moves the position to what the projection says, as far as records are applied.
func (p *progress) move(position uint64) {
	p.advance(func(s *Status) { s.Position = max(s.Position, min(position, s.Applied)) })
}

// advance changes the status, and says how far the runner is behind after that.
func (p *progress) advance(change func(*Status)) {
	backlog, _ := p.left()
	p.update(func(s *Status) {
		change(s)
		behind := max(p.end.Load(), s.Applied) - s.Applied
		s.Backlog = backlog
		if behind == 0 && backlog == 0 {
			s.SecondsToLoss = nil
		}
		p.settle(s, behind)
	})
}

// update changes the status under its lock.
func (p *progress) update(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.status
	change(s)
	p.metrics.position.Set(float64(s.Position))
	p.metrics.lag.Set(float64(s.Lag))
	p.metrics.lagSeconds.Set(s.LagSeconds)
	p.metrics.backlog.Set(float64(s.Backlog))
	toLoss := math.Inf(1)
	if s.SecondsToLoss != nil {
		toLoss = *s.SecondsToLoss
	}
	p.metrics.toLoss.Set(toLoss)
}

// settle notes how far behind the projection is. The lock is held.
func (p *progress) settle(s *Status, behind uint64) {
	s.Lag, s.LagSeconds = behind, 0
	if behind > 0 && !p.oldest.IsZero() {
		s.LagSeconds = max(0, p.now().Sub(p.oldest).Seconds())
	}
	switch {
	case s.LastError != "":
		s.State = StateFailing
	case p.idle.Err() != nil:
		s.State = StateDraining
	case behind > p.batch:
		s.State = StateCatchingUp
	default:
		s.State = StateLive
	}
}

// setOldest notes about when the first record that is not applied was made.
func (p *progress) setOldest(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oldest = t
}

// foundOldest notes what was looked up, unless the runner has gone on meanwhile.
func (p *progress) foundOldest(applied uint64, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.oldest.IsZero() && p.status.Applied == applied {
		p.oldest = t
	}
}
