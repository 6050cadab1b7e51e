package projector

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// defaultBatch is how many records a batch holds at most.
	defaultBatch = 1000
	// saveEvery is how often a position is saved at most: each time costs an fsync.
	saveEvery = time.Second
	// jumpBehind is a second's work or so: less than that is not worth a transaction and a new
	// reader.
	jumpBehind = 5000
)

// StartPolicy says where a runner begins. The zero value is FromPosition.
type StartPolicy struct {
	from startFrom
	time time.Time
}

type startFrom uint8

const (
	fromPosition startFrom = iota
	fromTime
	fromEnd
)

// FromPosition begins after the saved position, or at the journal's start if there is none.
func FromPosition() StartPolicy { return StartPolicy{} }

// FromTime begins at the first record that was stored at t or later. No position is loaded or
// saved.
func FromTime(t time.Time) StartPolicy { return StartPolicy{from: fromTime, time: t} }

// FromEnd begins after the last record that the journal holds at the start. No position is loaded
// or saved.
func FromEnd() StartPolicy { return StartPolicy{from: fromEnd} }

// RunnerOptions configure a Runner. Projection and Journal are required, and Positions if Start is
// FromPosition.
type RunnerOptions struct {
	Projection Projection
	Journal    Source
	Positions  *Positions
	// Rejects lists the records that cannot be read or applied (nil: they are counted and logged
	// only).
	Rejects *Rejects
	// BatchRecords is how many records a batch holds at most (0: 1,000).
	BatchRecords int
	// Linger is how long the runner waits after a batch that was not full, so that the next is
	// larger: for sinks that fsync every write. Records wait up to that long.
	Linger time.Duration
	// SaveEvery is how often the position is saved at most (0: a second). A sink that has to write
	// files before that, see Persister, wants it less often; after a crash so much of the journal
	// is applied again. SaveReadings is after how many readings it is saved sooner (0: never), so
	// that this work is bounded. It is also saved sooner if the journal is so small that it would
	// drop this part.
	SaveEvery    time.Duration
	SaveReadings int
	// Start is where to begin.
	Start StartPolicy
	// Backlog fills in what the runner leaves out when it is far behind, so that it is soon live
	// again (nil: it goes on with the oldest). It keeps the position in the database of Positions.
	Backlog Backlog
	// JumpBehind is how many records the runner may be behind the journal's end and still catch up
	// in order, if it has a Backlog (0: 5,000).
	JumpBehind uint64
	// Logger gets the runner's log (nil: none), Registerer its metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that projections are told and that ages are counted by (nil: time.Now).
	Now func() time.Time
}

func (o RunnerOptions) withDefaults() (RunnerOptions, error) {
	if o.Projection == nil || o.Journal == nil {
		return o, errors.New("projector: RunnerOptions needs a Projection and a Journal")
	}
	if o.Start.from == fromPosition && o.Positions == nil {
		return o, errors.New("projector: RunnerOptions needs Positions, or another Start than FromPosition")
	}
	if o.Start.from != fromPosition {
		o.Positions = nil
	}
	if b := o.Backlog; b != nil && (o.Positions == nil || b.Backlog().Name != o.Projection.Name()) {
		return o, errors.New("projector: a Backlog needs Start FromPosition, and the projection's name")
	}
	if o.JumpBehind == 0 {
		o.JumpBehind = jumpBehind
	}
	if o.BatchRecords <= 0 {
		o.BatchRecords = defaultBatch
	}
	if o.SaveEvery <= 0 {
		o.SaveEvery = saveEvery
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}
