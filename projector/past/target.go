package past

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nanopack/pulse/journal"
)

// Target is a view that can be rebuilt. Its methods are called from one goroutine. They may block
// for as long as the work takes, and return early when ctx ends. An error is temporary: the same
// call follows after a back-off, unless the error wraps ErrInvalid, which fails the replay. A
// Target whose sink keeps what it takes in memory for a while is a projector.Persister too.
type Target interface {
	// Name is what a Request calls the view: short, constant, unique.
	Name() string
	// Plan finds out what there is to do for a range of time.
	Plan(ctx context.Context, r Range) (Plan, error)
	// Step does a part of what is left at cursor, at best for less than a second, the newest first.
	// What a Target holds in memory may be lost between any two steps.
	Step(ctx context.Context, r Range, cursor json.RawMessage) (Step, error)
}

// View is a projection to which the order of records does not matter, so that any chunk of records
// can be applied again at any time. Its methods are called from one goroutine, and errors are
// temporary. A View whose sink keeps what it takes in memory for a while is a projector.Persister
// too.
type View interface {
	Sink
	// Name is what a Request calls the view.
	Name() string
	// Find returns the records in which there may be events of a range of time.
	Find(ctx context.Context, r Range) (Found, error)
}

// Sink takes chunks of records. A chunk may be given up at any time for another one.
type Sink interface {
	// Projection is the name of the projection whose records the sink takes.
	Projection() string
	// Begin begins a chunk.
	Begin(c Chunk) error
	// Apply applies some records of the chunk, in order. It returns what was done, also with an
	// error: then the same records are offered again. It keeps nothing of the records but strings.
	Apply(ctx context.Context, records []journal.Record) (Counts, error)
	// End ends the chunk: all of its records that the journal has were applied.
	End() error
}

// Chunk is what a Sink goes over at once.
type Chunk struct {
	journal.Span
	// Range bounds the times of the events. The zero Range takes every record.
	Range
	// Newest is the newest record that a Sink was offered for the same Range; 0 if there is none
	// yet.
	Newest uint64

	epoch int // of the backlog
}

// Range is what to rebuild: From included, To excluded.
type Range struct {
	From, To time.Time
	// Edge names the edge whose events alone are meant ("": all events).
	Edge string
	// DryRun: count what would be done, and change nothing.
	DryRun bool
	// Quiet is how long there may be no events before a note says so: see Step.Seen.
	Quiet time.Duration
}

// Takes reports whether events of an edge are meant.
func (r Range) Takes(edge string) bool { return r.Edge == "" || r.Edge == edge }

// Found is what a View finds for a Range.
type Found struct {
	Spans journal.Spans
	// Lost and Notes are as in Plan.
	Lost  uint64
	Notes []string
}

// Plan is where a part begins.
type Plan struct {
	// Cursor is for the first Step, in JSON.
	Cursor json.RawMessage
	// Left is about how many records there are to go over.
	Left uint64
	// Lost counts the records of the range that are known to be missing from the journal already.
	Lost uint64
	// Notes are for people: what cannot be done and why.
	Notes []string
}

// Step is what one step did.
type Step struct {
	Counts
	// Cursor is where the next step begins. Done reports that there is none.
	Cursor json.RawMessage
	Done   bool
	// Left is about how many records are still to be gone over.
	Left uint64
	// Worked is how long the machine was busy with the step (0: all the time that the call took).
	Worked time.Duration
	// Notes are as in Plan. A note that a part has already is not added again.
	Notes []string
	// Seen are the stretches of time that the step had events of.
	Seen Seen
}

// Counts are what was done. In a dry run they are what would have been done.
type Counts struct {
	// Events are the polls' replies gone over, Readings what is in them.
	Events   uint64 `json:"events"`
	Readings uint64 `json:"readings"`
	// Points are the points or rows written.
	Points uint64 `json:"points"`
	// Expired are readings older than the view keeps. Refused are readings or rows that the sink
	// will never take. Lost are records of the range that the journal does not have any more.
	Expired uint64 `json:"expired"`
	Refused uint64 `json:"refused"`
	Lost    uint64 `json:"lost"`
}

// Add adds other counts.
func (c *Counts) Add(other Counts) {
	c.Events += other.Events
	c.Readings += other.Readings
	c.Points += other.Points
	c.Expired += other.Expired
	c.Refused += other.Refused
	c.Lost += other.Lost
}
