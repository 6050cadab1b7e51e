package projector

import (
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
)

// Backlog takes records over from a runner that is far behind, so that the runner is soon live
// again, and fills them in afterwards. It is only for projections to which the order of records
// does not matter. Its methods are called from any goroutine, and do not wait for the work.
type Backlog interface {
	// Take takes over the records of s. In the same transaction the runner's position moves to the
	// end of s. The error is ErrBacklogFull if the backlog takes no more.
	Take(s journal.Span) error
	// Cut forgets the records after end and moves the runner's position, in one transaction: the
	// journal is shorter than it was, or the sink was wiped (then both are 0).
	Cut(end, position uint64) error
	// Backlog returns how the work is going.
	Backlog() BacklogStatus
}

// ErrBacklogFull reports that a backlog takes no more records.
var ErrBacklogFull = errors.New("the backlog takes no more ranges")

// BacklogStatus is how a backlog is doing.
type BacklogStatus struct {
	// Name is the projection's.
	Name string `json:"name"`
	// Records counts what is left to do, in Ranges ranges. From is the oldest of the records and To
	// the newest; both are 0 if nothing is left.
	Records uint64 `json:"records"`
	Ranges  int    `json:"ranges"`
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	// Failing reports that the last attempt failed, with LastError, and FailingSince is when the
	// run of failures began. Failures counts all failures since the start.
	Failing      bool      `json:"failing"`
	LastError    string    `json:"last_error,omitempty"`
	FailingSince time.Time `json:"failing_since,omitzero"`
	Failures     uint64    `json:"failures"`
	// Losses are in the runner's Status too.
	Losses
}
