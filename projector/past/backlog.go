package past

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

const (
	// chunkRecords is how many records the backlog takes at a time: a second or two of work, so
	// that a newer span soon has its turn, and little is repeated after a crash.
	chunkRecords = 20_000
	// maxSpans is how many spans a backlog has at most: one for each outage.
	maxSpans = 64
	// stateTimeout is how long the backlog waits for the journal's state, persistTimeout how long
	// for a sink that makes durable what it took.
	stateTimeout   = 5 * time.Second
	persistTimeout = 30 * time.Second
)

// Backlog fills in what a runner left out to be live again soon, from the newest record that is
// missing to the oldest. It implements projector.Backlog.
//
// A span is added in the transaction that moves the runner's position to its end, and gets smaller
// after each chunk was applied. So a crash repeats a chunk and leaves out nothing. A newer span
// goes first. What retention drops before its turn is counted and reported as a gap.
type Backlog struct {
	name      string // of the projection
	positions *projector.Positions
	journal   projector.Source
	player    *player
	account   *projector.Account
	log       *slog.Logger
	now       func() time.Time
	size      uint64 // records of a chunk
	wake      chan<- struct{}

	done *Chunk // of the worker: it was applied, and is still to be taken out of left

	// changing is held while the place is changed in the database and in memory. It comes before
	// mu.
	changing sync.Mutex

	mu       sync.Mutex    // guards what follows; held for a moment only
	left     journal.Spans // as they are in the database
	epoch    int           // counts the cuts: a chunk of an earlier epoch counts for nothing
	ending   bool          // nothing is taken any more
	status   projector.BacklogStatus
	failures retry.Failures
}

func newBacklog(o Options, p *player, wake chan<- struct{}) *Backlog {
	name := o.View.Projection()
	log := o.Logger.With("backlog", true)
	return &Backlog{
		name: name, positions: projector.NewPositions(o.DB), journal: o.Journal, player: p,
		account: projector.NewAccount(projector.AccountOptions{Projection: name, Rejects: o.Rejects, Logger: log, Registerer: o.Registerer, Now: o.Now}),
		log:     log.With("projection", name), now: o.Now, size: chunkRecords, wake: wake,
	}
}

// load loads the spans and cuts off what is after the journal's end: no span was beyond it when it
// was added.
func (b *Backlog) load(ctx context.Context) error {
	err := b.change(func(p projector.Place) (projector.Place, error) { return p, nil })
	if err != nil || b.Backlog().Records == 0 {
		return err
	}
	state, err := b.state(ctx)
	if err != nil {
		return err
	}
	return b.change(func(p projector.Place) (projector.Place, error) {
		p.Left = p.Left.Within(journal.Span{Last: state.LastSeq})
		return p, nil
	})
}

// Backlog returns how the work is going.
func (b *Backlog) Backlog() projector.BacklogStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	s.Name, s.Losses, s.Failing = b.name, b.account.Losses(), s.LastError != ""
	if n := len(b.left); n > 0 {
		s.Records, s.Ranges, s.From, s.To = b.left.Records(), n, b.left[0].First, b.left[n-1].Last
	}
	return s
}

// change changes the place in the database and then in memory.
func (b *Backlog) change(f func(projector.Place) (projector.Place, error)) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	next, err := b.positions.Change(b.name, f)
	if err != nil {
		if !errors.Is(err, projector.ErrBacklogFull) {
			b.account.NotSaved()
		}
		return err
	}
	b.mu.Lock()
	b.left = next.Left
	b.mu.Unlock()
	return nil
}

// Take takes over a span from the runner. It is projector.ErrBacklogFull if there are too many
// spans, or the backlog is about to end.
func (b *Backlog) Take(s journal.Span) error {
	err := b.change(func(p projector.Place) (projector.Place, error) {
		b.mu.Lock()
		ending := b.ending
		b.mu.Unlock()
		p.Left, p.Position = p.Left.Add(s), s.Last
		if ending || len(p.Left) > maxSpans {
			return p, projector.ErrBacklogFull
		}
		return p, nil
	})
	if err == nil {
		wake(b.wake)
	}
	return err
}

// Cut forgets what is after end, and moves the runner's position. The chunk under way counts for
// nothing.
func (b *Backlog) Cut(end, position uint64) error {
	return b.change(func(p projector.Place) (projector.Place, error) {
		b.mu.Lock()
		b.epoch++
		b.mu.Unlock()
		return projector.Place{Position: position, Left: p.Left.Within(journal.Span{Last: end})}, nil
	})
}

// end has the backlog take nothing more. What Take adds is added before, and seen.
func (b *Backlog) end() {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	b.ending = true
	b.mu.Unlock()
}

// waits reports whether there is something to do.
func (b *Backlog) waits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.left) > 0
}

// next is the newest chunk.
func (b *Backlog) next() Chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Chunk{Span: newest(b.left, b.size), epoch: b.epoch}
}

// step applies the newest chunk.
func (b *Backlog) step(ctx context.Context) (rest time.Duration, err error) {
	if b.done == nil {
		err = b.fill(ctx)
	} else { // it need not be applied again
		_, err = b.finish(*b.done)
	}
	if err == nil {
		b.recovered()
	}
	return 0, err
}

// fill applies the newest chunk, or puts the spans right if the journal does not have all of it.
func (b *Backlog) fill(ctx context.Context) error {
	c := b.next()
	state, err := b.state(ctx)
	if err != nil {
		return err
	}
	if c.Last > state.LastSeq {
		// The runner sees that too, goes back to the journal's end, and counts what is lost.
		c.First = max(c.First, state.LastSeq+1)
		_, err := b.finish(c)
		return err
	}
	if state.FirstSeq > c.First {
		return b.drop(c, state.FirstSeq-1)
	}
	if _, err := b.player.play(ctx, c, b.account); err != nil {
		return err
	}
	if err := b.persist(ctx); err != nil {
		return err
	}
	b.done = &c
	_, err = b.finish(c)
	return err
}

// drop leaves out the records of the newest span up to last, which retention has dropped: all that
// is older is gone with it, in one gap.
func (b *Backlog) drop(c Chunk, last uint64) error {
	b.mu.Lock()
	s := b.left[len(b.left)-1]
	b.mu.Unlock()
	gone := journal.Span{First: s.First, Last: min(last, s.Last)}
	c.Span = gone
	counts, err := b.finish(c)
	if counts && err == nil {
		b.account.Gap(&journal.GapError{From: gone.First, To: gone.Last, Reason: journal.GapRetention}, gapMessage)
	}
	return err
}

// finish takes a chunk out of what is left. It counts for nothing if something was cut since the
// chunk was begun.
func (b *Backlog) finish(c Chunk) (counts bool, err error) {
	err = b.change(func(p projector.Place) (projector.Place, error) {
		b.mu.Lock()
		counts = b.epoch == c.epoch
		b.mu.Unlock()
		if counts {
			p.Left = p.Left.Remove(c.Span)
		}
		return p, nil
	})
	if err == nil {
		b.done = nil
	}
	return counts, err
}

// persist has the sink make durable what it took.
func (b *Backlog) persist(ctx context.Context) error {
	p, ok := b.player.sink.(projector.Persister)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, persistTimeout)
	defer cancel()
	return p.Persist(ctx)
}

// state asks the journal.
func (b *Backlog) state(ctx context.Context) (journal.State, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return b.journal.State(ctx)
}

// failed notes a failure and returns how many there are in a row.
func (b *Backlog) failed(err error) int {
	b.account.Failed()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.failures.Add()
	b.status.Failures++
	b.status.LastError = err.Error()
	if b.status.FailingSince.IsZero() {
		b.status.FailingSince = b.now()
	}
	if b.failures.MayLog() && projector.LogFailure(b.log, err, "the backlog cannot go on and tries again", "failures", n) {
		b.failures.Logged()
	}
	return n
}

// recovered ends a run of failures.
func (b *Backlog) recovered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, logged := b.failures.End()
	b.status.LastError, b.status.FailingSince = "", time.Time{}
	if logged {
		b.log.Info("the backlog goes on")
	}
}

// remains is the error of a drain that did not get to the end: nil if nothing is left.
func (b *Backlog) remains(ctx context.Context) error {
	s := b.Backlog()
	if s.Records == 0 {
		return nil
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = context.Canceled
	}
	if s.LastError != "" {
		cause = fmt.Errorf("%w (%s)", cause, s.LastError)
	}
	return fmt.Errorf("projector: %d records are still to be filled in for %s, the next start goes on with them: %w", s.Records, b.name, cause)
}
