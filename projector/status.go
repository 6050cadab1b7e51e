package projector

import (
	"math"
	"time"
)

// State is what a runner is doing.
type State string

// The states of a runner.
const (
	StateNew        State = "new"         // not started
	StateLive       State = "live"        // everything in the journal is applied, or about to be
	StateCatchingUp State = "catching up" // more than one batch behind
	StateFailing    State = "failing"     // the sink (or the journal) fails; LastError says how
	StateDraining   State = "draining"    // on the way to the journal's end, then it stops
	StateDrained    State = "drained"     // stopped at the journal's end
	StateStopped    State = "stopped"     // stopped where it was
)

// Status is how a runner is doing. The JSON form is the API's.
type Status struct {
	// Name is the projection's.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Failing reports whether the sink does not take what it gets.
	Failing bool `json:"failing"`
	// Position is the saved position, or the one about to be saved: no record up to it is needed again.
	// Applied is the last record applied. The projection may hold Position back.
	Position uint64 `json:"position"`
	Applied  uint64 `json:"applied"`
	// AppliedTime is the time of the last event applied; zero before the first.
	AppliedTime time.Time `json:"-"`
	// Lag counts the records not applied yet. LagSeconds is about the age of the oldest of them: that of
	// the last one applied. Both are a second old at most, and leave the backlog out.
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	// Backlog counts the records that were left out to be live again soon, and are being filled in.
	Backlog uint64 `json:"backlog"`
	// SecondsToLoss is in how many seconds the journal drops the first record that is not applied (the
	// backlog's too) if it goes on growing as it did over the last minute. It is nil if none waits, or
	// the journal has no limit that it will meet.
	SecondsToLoss *float64 `json:"seconds_to_loss"`
	// Losses are the backlog's too.
	Losses
	// Failures counts temporary failures since the start. LastError is the newest, FailingSince the
	// beginning of the run of failures that it belongs to. Both are empty when the last attempt succeeded.
	Failures     uint64    `json:"-"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"-"`
}

// Status returns how the runner is doing. It may be called from any goroutine and at any time.
func (r *Runner) Status() Status {
	r.mu.Lock()
	s := r.status
	r.mu.Unlock()
	s.Failing = s.State == StateFailing
	s.Losses = r.account.Losses()
	if r.o.Backlog != nil {
		b := r.o.Backlog.Backlog()
		s.Backlog, s.Losses = b.Records, s.Losses.plus(b.Losses)
	}
	s.Gaps = append([]Gap{}, s.Gaps...) // never null
	return s
}

// backlog is how many records the backlog has left, and the oldest of them.
func (r *Runner) backlog() (records, from uint64) {
	if r.o.Backlog == nil {
		return 0, 0
	}
	b := r.o.Backlog.Backlog()
	return b.Records, b.From
}

// update changes the status under its lock.
func (r *Runner) update(f func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.status
	f(s)
	r.metrics.position.Set(float64(s.Position))
	r.metrics.lag.Set(float64(s.Lag))
	r.metrics.lagSeconds.Set(s.LagSeconds)
	r.metrics.backlog.Set(float64(s.Backlog))
	toLoss := math.Inf(1)
	if s.SecondsToLoss != nil {
		toLoss = *s.SecondsToLoss
	}
	r.metrics.toLoss.Set(toLoss)
}

// behind is how many records the journal is known to have that are not applied.
func (r *Runner) behind() uint64 { return max(r.knownEnd.Load(), r.applied) - r.applied }

// advanced notes where the projection is, and how many records are before it.
func (r *Runner) advanced() {
	behind := r.behind()
	backlog, _ := r.backlog()
	r.update(func(s *Status) {
		s.Position, s.Applied, s.Backlog = r.position, r.applied, backlog
		if behind == 0 && backlog == 0 {
			s.SecondsToLoss = nil
		}
		r.settle(s, behind)
	})
}

// settle notes how far behind the projection is. The lock is held.
func (r *Runner) settle(s *Status, behind uint64) {
	s.Lag, s.LagSeconds = behind, 0
	if behind > 0 && !r.oldest.IsZero() {
		s.LagSeconds = max(0, r.now().Sub(r.oldest).Seconds())
	}
	switch {
	case s.LastError != "":
		s.State = StateFailing
	case r.draining():
		s.State = StateDraining
	case behind > uint64(r.o.BatchRecords):
		s.State = StateCatchingUp
	default:
		s.State = StateLive
	}
}

// setOldest notes about when the first record that is not applied was made; zero: not known.
func (r *Runner) setOldest(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.oldest = t
}

// foundOldest notes what was looked up, unless the runner has gone on meanwhile.
func (r *Runner) foundOldest(applied uint64, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oldest.IsZero() && r.status.Applied == applied {
		r.oldest = t
	}
}
