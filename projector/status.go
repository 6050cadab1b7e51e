package projector

import (
	"time"

	"github.com/nanopack/pulse/journal"
)

// State says what a runner is doing.
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

// Status is what a runner tells about itself.
type Status struct {
	// Name is the projection's.
	Name  string `json:"name"`
	State State  `json:"state"`
	// Position is the saved position, or the one about to be saved: no record up to it is needed again.
	// Applied is the last record applied; the projection may hold Position back behind it.
	Position uint64 `json:"position"`
	Applied  uint64 `json:"applied"`
	// AppliedTime is the time of the last event applied; zero before the first.
	AppliedTime time.Time `json:"applied_time,omitzero"`
	// Lag counts the records not applied yet; LagSeconds is the age of the last event applied if Lag is not 0.
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	// Failures counts temporary failures since the start. LastError is the newest, FailingSince the beginning of
	// the row of failures that it belongs to; both are empty when the last attempt succeeded.
	Failures     uint64    `json:"failures"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Rejected counts records that could not be read or applied.
	Rejected uint64 `json:"rejected"`
	// Lost counts the records that were missing from the journal, Gaps are the newest such gaps.
	Lost uint64 `json:"lost"`
	Gaps []Gap  `json:"gaps,omitempty"`
}

// Gap is a row of records that were missing from the journal when the projection came to them.
type Gap struct {
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// maxGaps is how many gaps a Status lists.
const maxGaps = 16

// Status tells how the runner is doing. It may be called from any goroutine and at any time.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Gaps = append([]Gap(nil), s.Gaps...)
	return s
}

// update changes the status under its lock.
func (r *Runner) update(f func(*Status)) {
	r.mu.Lock()
	f(&r.status)
	s := &r.status
	position, lag, seconds := s.Position, s.Lag, s.LagSeconds
	r.mu.Unlock()
	r.metrics.position.Set(float64(position))
	r.metrics.lag.Set(float64(lag))
	r.metrics.lagSeconds.Set(seconds)
}

// advanced notes where the projection is, and how many records are before it.
func (r *Runner) advanced(behind uint64) {
	var seconds float64
	if behind > 0 && r.appliedTime != 0 {
		seconds = max(0, r.now().Sub(time.Unix(0, r.appliedTime)).Seconds())
	}
	r.update(func(s *Status) {
		s.Position, s.Applied, s.Lag, s.LagSeconds = r.position, r.applied, behind, seconds
		if r.appliedTime != 0 {
			s.AppliedTime = time.Unix(0, r.appliedTime).UTC()
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
	})
}

// gap notes records that are missing.
func (r *Runner) gap(g *journal.GapError) {
	r.metrics.gaps.Inc()
	r.metrics.lost.Add(float64(g.Missing()))
	r.log.Error("records are missing from the journal; the projection goes on behind them",
		"from", g.From, "to", g.To, "count", g.Missing(), "reason", g.Reason)
	r.update(func(s *Status) {
		s.Lost += g.Missing()
		if len(s.Gaps) == maxGaps {
			s.Gaps = append(s.Gaps[:0], s.Gaps[1:]...)
		}
		s.Gaps = append(s.Gaps, Gap{g.From, g.To, g.Missing(), g.Reason, r.now()})
	})
}
