package projector

import "time"

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
	// Position is the saved position, or the one about to be saved: no record up to it is needed
	// again. Applied is the last record applied. The projection may hold Position back.
	Position uint64 `json:"position"`
	Applied  uint64 `json:"applied"`
	// AppliedTime is the time of the last event applied; zero before the first.
	AppliedTime time.Time `json:"-"`
	// Lag counts the records not applied yet. LagSeconds is about the age of the oldest of them:
	// that of the last one applied. Both are a second old at most, and leave the backlog out.
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	// Backlog counts the records that were left out to be live again soon, and are being filled in.
	Backlog uint64 `json:"backlog"`
	// SecondsToLoss is in how many seconds the journal drops the first record that is not applied
	// (the backlog's too) if it goes on growing as it did over the last minute. It is nil if none
	// waits, or the journal has no limit that it will meet.
	SecondsToLoss *float64 `json:"seconds_to_loss"`
	// Losses are the backlog's too.
	Losses
	// Failures counts temporary failures since the start. LastError is the newest, FailingSince the
	// beginning of the run of failures that it belongs to. Both are empty when the last attempt
	// succeeded.
	Failures     uint64    `json:"-"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"-"`
}
