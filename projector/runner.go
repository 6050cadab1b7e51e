package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/retry"
)

// defaultBatch is how many records a batch holds at most.
const defaultBatch = 1000

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
	// is applied again.
	SaveEvery time.Duration
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

// Runner takes one projection through the journal. Start it once; its methods may be called from
// any goroutine.
type Runner struct {
	o       RunnerOptions
	log     *slog.Logger
	account *Account
	metrics *metrics
	now     func() time.Time

	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	idle    context.Context // within ctx; ends with Drain too, after target was set: nothing may wait any more
	endIdle context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended, after result was set

	// Of the runner's goroutine, and of Start before it.
	intake
	place
	failures  retry.Failures
	nextTick  time.Time
	works     bool // the last batch was applied, since the last jump
	exhausted bool // draining, and the journal has nothing more to give

	// knownEnd is the journal's end when it was last looked at, a second ago: asking costs a round
	// trip.
	knownEnd atomic.Uint64
	looking  sync.WaitGroup // for the goroutine that looks at the journal's end

	mu      sync.Mutex // guards what follows
	status  Status
	oldest  time.Time // about when the first record that is not applied was made; zero: not known
	started bool
	drain   bool   // a drain was asked for
	target  uint64 // where it ends
	result  error
}

// NewRunner returns a runner that does nothing yet. The error says which option is missing.
func NewRunner(o RunnerOptions) (*Runner, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	name := o.Projection.Name()
	r := &Runner{
		o:       o,
		log:     o.Logger.With("projection", name),
		account: NewAccount(AccountOptions{Projection: name, Rejects: o.Rejects, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now}),
		metrics: newMetrics(o.Registerer, name),
		now:     o.Now,
		done:    make(chan struct{}),
		intake:  intake{source: o.Journal, most: o.BatchRecords},
		status:  Status{Name: name, State: StateNew},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.idle, r.endIdle = context.WithCancel(r.ctx)
	return r, nil
}

// Start loads the position, puts it right if the journal is shorter than that, and starts the
// goroutine. It must be called before anything is appended to a journal that was just opened: a
// position beyond its end is found by comparing the two. ctx is for the call only. The error means
// that pulse.db or the journal cannot be read, or that the projection cannot begin; the runner is
// stopped then.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	if r.started {
		r.mu.Unlock()
		return errors.New("projector: a runner can be started once only")
	}
	r.started = true
	r.mu.Unlock()
	if err := r.open(ctx); err != nil {
		err = fmt.Errorf("projector: starting %s: %w", r.o.Projection.Name(), err)
		r.cancel()
		r.finish(err)
		return err
	}
	r.looking.Go(r.look)
	go r.run()
	return nil
}

// Stop ends the runner where it is, saves its position and waits for its goroutine. It may be
// called twice.
func (r *Runner) Stop() {
	r.cancel()
	r.mu.Lock()
	if !r.started {
		r.started = true
		r.status.State = StateStopped
		close(r.done)
	}
	r.mu.Unlock()
	<-r.done
}

// Drain applies everything that the journal holds now, flushes the projection, saves the position,
// and stops. If ctx ends first it stops where it is, and the error says how far it got. A runner
// that was stopped before returns why.
func (r *Runner) Drain(ctx context.Context) error {
	state, err := r.o.Journal.State(ctx)
	if err != nil {
		r.Stop()
		return fmt.Errorf("projector: draining %s: %w", r.o.Projection.Name(), err)
	}
	r.mu.Lock()
	started := r.started
	if !r.drain {
		r.drain, r.target = true, state.LastSeq
		r.endIdle()
	}
	r.mu.Unlock()
	if !started {
		r.Stop()
		return nil
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.Stop()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.State == StateDrained {
		return r.result
	}
	err = r.result
	if err == nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("projector: %s stopped at record %d of %d, the rest follows after the next start: %w",
		r.o.Projection.Name(), r.status.Applied, state.LastSeq, err)
}

// draining reports whether Drain or Stop was called.
func (r *Runner) draining() bool { return r.idle.Err() != nil }
