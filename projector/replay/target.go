package replay

import (
	"context"
	"encoding/json"
	"time"
)

// Target is a view that can be rebuilt.
type Target interface {
	// Name is what a Request calls it: short, constant, unique.
	Name() string
	// Run returns the means to rebuild a range once. What it holds in memory may be lost between any two steps: a
	// Run made after a restart goes on from a cursor of the one before.
	Run(Range) Run
}

// Persister is a Target whose sink keeps what it takes in memory for a while.
type Persister interface {
	// Persist returns when all that steps wrote before the call survives a crash.
	Persist(ctx context.Context) error
}

// Run rebuilds one range of a Target. Its methods are called from one goroutine at a time. They may block for as long as
// the work takes and return early when ctx ends. An error is temporary, the same call follows after a back-off,
// unless it wraps ErrInvalid: that fails the job.
type Run interface {
	// Plan finds out what there is to do.
	Plan(ctx context.Context) (Plan, error)
	// Step does a part of what is left at cursor, at best for less than a second, the newest first.
	Step(ctx context.Context, cursor json.RawMessage) (Step, error)
}

// Range is what to rebuild: From included, To excluded.
type Range struct {
	From, To time.Time
	// DryRun: count what would be done, and change nothing.
	DryRun bool
	// Quiet is how long there may be no events without a word: see Step.Seen.
	Quiet time.Duration
}

// Plan is where a part begins.
type Plan struct {
	// Cursor is for the first Step, in JSON.
	Cursor json.RawMessage
	// Left is how many records there are to go over, about.
	Left uint64
	// Lost are records of the range that are known to be missing from the journal already.
	Lost uint64
	// Notes are for people: what cannot be done and why.
	Notes []string
}

// Step is what one step did.
type Step struct {
	Counts
	// Cursor is where the next step begins; Done: there is none.
	Cursor json.RawMessage
	Done   bool
	// Left is how many records are still to be gone over, about.
	Left uint64
	// Worked is how long the machine was busy with it (0: all the time that the call took).
	Worked time.Duration
	// Notes are as Plan's. One that a part has already is not added again.
	Notes []string
	// Seen are the stretches of time that the step had events of, in ns.
	Seen Seen
}

// Counts say what was done. The fields of a dry run say what would have been.
type Counts struct {
	// Events are the polls' replies gone over, Readings what is in them.
	Events   uint64 `json:"events"`
	Readings uint64 `json:"readings"`
	// Points are the points or rows written.
	Points uint64 `json:"points"`
	// Expired are readings older than the view keeps, Refused readings or rows that the sink will never take, Lost
	// records of the range that the journal does not have any more.
	Expired uint64 `json:"expired"`
	Refused uint64 `json:"refused"`
	Lost    uint64 `json:"lost"`
}

func (c *Counts) add(other Counts) {
	c.Events += other.Events
	c.Readings += other.Readings
	c.Points += other.Points
	c.Expired += other.Expired
	c.Refused += other.Refused
	c.Lost += other.Lost
}
