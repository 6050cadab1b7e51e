package projector

import (
	"context"
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
)

// Projection is a view of the journal. A runner calls all its methods from one goroutine.
type Projection interface {
	// Name is the name under which the position is saved: short, constant, unique.
	Name() string
	// Apply projects records in the journal's order. It must be idempotent: after an error the same
	// records are offered again, and after a crash records that were applied before are too.
	// Records without an Event may be among them. It may block, and returns early when ctx ends; it
	// must change nothing of the records, which other projections get too, and keep nothing of them
	// but strings.
	//
	// The position it returns is the one to save: no record up to it has to be seen again. An error
	// is taken as temporary, and the same batch is offered again after a back-off, unless it is a
	// *RejectError.
	Apply(ctx context.Context, records []journal.Record) (position uint64, err error)
}

// Beginner is a Projection that keeps state from one batch to the next.
type Beginner interface {
	// Begin says where the records come from: once before the first Apply, and again if the journal
	// turns out to be shorter than it was. What the projection keeps in memory is void then. An
	// error fails Start.
	Begin(ctx context.Context, span Origin) error
}

// Origin says where a projection begins in the journal.
type Origin struct {
	// Position is the saved position: the next record has a higher sequence number. 0 for a
	// projection without one.
	Position uint64
	// First and Last are the sequence numbers of the journal's oldest and newest record.
	First, Last uint64
}

// Ticker is a Projection with something to do as time passes.
type Ticker interface {
	// Tick is called about once a second, between batches. Position and error are as Apply's.
	Tick(ctx context.Context, now time.Time) (position uint64, err error)
}

// Flusher is a Projection that holds something back.
type Flusher interface {
	// Flush is called at the end of a drain: nothing will come after it. Position and error are as
	// Apply's.
	Flush(ctx context.Context, now time.Time) (position uint64, err error)
}

// Persister is a Projection whose sink keeps what it takes in memory for a while.
type Persister interface {
	// Persist returns when all that was applied before the call survives a crash. The runner calls
	// it before it saves a position.
	Persist(ctx context.Context) error
}

// RejectError is returned by Apply when the sink will never take a record of the batch. The runner
// finds out which by offering ever smaller batches, lists it, and goes on.
type RejectError struct {
	// Reason is what the sink said.
	Reason string
	// Err is the cause; it may be nil.
	Err error
}

// Error gives the reason.
func (e *RejectError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("projector: the sink refuses the record for good: %s: %v", e.Reason, e.Err)
	}
	return "projector: the sink refuses the record for good: " + e.Reason
}

// Unwrap returns the cause.
func (e *RejectError) Unwrap() error { return e.Err }
