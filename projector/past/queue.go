package past

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/projector"
)

// backoff is the pause after a failure. While draining it is at most backoffDrain: the deadline is
// near, and a sink that comes back just in time should be found.
var backoff = retry.Backoff{First: 250 * time.Millisecond, Last: 30 * time.Second}

const (
	backoffDrain = time.Second
	defaultShare = 0.5
)

// Options configure a Queue. DB and Journal are required, and a View or Targets.
type Options struct {
	// DB keeps what is left to do: buckets "backlog" and "replays".
	DB      *bbolt.DB
	Journal projector.Source
	// View is the projection that has a Backlog, and the first that can be rebuilt (nil: none). Its
	// runner keeps its position in DB.
	View View
	// Targets are the others that can be rebuilt, in the order in which a replay does it.
	Targets []Target
	// Share is how much of the time replays work: 0 < Share <= 1 (0: 0.5).
	Share float64
	// Quiet is how long the journal may hold nothing before a note of a replay says so (0: two
	// minutes).
	Quiet time.Duration
	// Rejects lists the records of the backlog that cannot be read (nil: they are counted and
	// logged only).
	Rejects *projector.Rejects
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

func (o Options) withDefaults() (Options, error) {
	if o.DB == nil || o.Journal == nil || o.View == nil && len(o.Targets) == 0 {
		return o, errors.New("past: Options needs a DB, a Journal, and a View or Targets")
	}
	if o.Share == 0 {
		o.Share = defaultShare
	}
	if !(o.Share > 0 && o.Share <= 1) {
		return o, fmt.Errorf("past: a share of %v; it must be more than 0 and at most 1", o.Share)
	}
	if o.Quiet <= 0 {
		o.Quiet = defaultQuiet
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

// Queue is the work on the past and its one worker. Its methods may be called from any goroutine.
type Queue struct {
	*Backlog // nil without a View
	*Replays

	ctx      context.Context // ends with Stop
	cancel   context.CancelFunc
	hurry    context.Context // within ctx; ends with Drain too: the worker ends when the backlog is empty
	endHurry context.CancelFunc
	wake     chan struct{} // holds one: there may be something more urgent to do
	done     chan struct{} // closed when the worker has ended

	mu      sync.Mutex // guards what follows
	started bool
}

// work is a kind of work of the queue. Its methods are called by the worker.
type work interface {
	// waits reports whether there is something to do.
	waits() bool
	// step does a part of it, and returns for how long the worker is to rest then.
	step(ctx context.Context) (rest time.Duration, err error)
	// failed notes that a step failed, and returns how many did in a row.
	failed(err error) (failures int)
}

// New returns a queue with the work that the database holds. Nothing runs before Start. The error
// says which option is wrong, or that the database cannot be read.
func New(o Options) (*Queue, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	q := &Queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
	var targets []target
	if o.View != nil {
		p := &player{journal: o.Journal, sink: o.View}
		q.Backlog = newBacklog(o, p, q.wake)
		sink, _ := o.View.(projector.Persister)
		targets = append(targets, target{&byRecords{View: o.View, player: p}, sink})
	}
	for _, t := range o.Targets {
		sink, _ := t.(projector.Persister)
		targets = append(targets, target{t, sink})
	}
	for i, t := range targets {
		same := func(other target) bool { return other.Name() == t.Name() }
		if t.Name() == "" || t.Name() == All || slices.IndexFunc(targets, same) != i {
			return nil, fmt.Errorf("past: a target is named %q; names are unique, not empty and not %q", t.Name(), All)
		}
	}
	if q.Replays, err = newReplays(o, targets, q.Backlog, q.wake); err != nil {
		return nil, err
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.hurry, q.endHurry = context.WithCancel(q.ctx)
	return q, nil
}

// Start loads the backlog and starts the worker. It fails if it was called before, or after Stop.
// Else the error means that the database or the journal cannot be read; the queue is stopped then.
func (q *Queue) Start(ctx context.Context) error {
	if !q.begin() || q.ctx.Err() != nil {
		return errors.New("past: a queue can be started once only")
	}
	if q.Backlog != nil {
		if err := q.Backlog.load(ctx); err != nil {
			q.cancel()
			close(q.done)
			return fmt.Errorf("past: starting the backlog of %s: %w", q.Backlog.name, err)
		}
	}
	go q.run()
	return nil
}

// begin reports whether it was called for the first time.
func (q *Queue) begin() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := !q.started
	q.started = true
	return first
}

// Stop ends the step under way and waits for the worker, or until ctx ends, whose error it returns
// then. The next start goes on. It may be called twice.
func (q *Queue) Stop(ctx context.Context) error {
	q.Replays.end()
	q.cancel()
	if q.begin() {
		close(q.done)
	}
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("past: stopping: %w", context.Cause(ctx))
	}
}

// Drain ends the replays, goes on with the backlog until nothing of it is left or ctx ends, and
// stops. The error says how much of the backlog is left: the next start goes on with it. From the
// call on the runner can add nothing.
func (q *Queue) Drain(ctx context.Context) error {
	q.Replays.end()
	if q.Backlog != nil {
		q.Backlog.end()
	}
	q.endHurry()
	if q.begin() {
		close(q.done)
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		q.cancel()
		<-q.done
	}
	if q.Backlog == nil {
		return nil
	}
	return q.Backlog.remains(ctx)
}

// run does what is most urgent, step by step, until the queue is stopped, or drained.
func (q *Queue) run() {
	defer close(q.done)
	defer q.Replays.leave()
	for q.ctx.Err() == nil {
		w, ctx := q.urgent()
		if w == nil {
			if q.hurry.Err() != nil {
				return
			}
			q.pause(0)
			continue
		}
		rest, err := w.step(ctx)
		if err != nil && ctx.Err() == nil {
			rest = backoff.Pause(w.failed(err))
		}
		if rest > 0 {
			q.pause(rest)
		}
	}
}

// urgent is the work that goes first, with the context of its steps; nil if there is none.
func (q *Queue) urgent() (work, context.Context) {
	select {
	case <-q.wake: // what it is about is seen now
	default:
	}
	switch {
	case q.Backlog != nil && q.Backlog.waits():
		return q.Backlog, q.ctx
	case q.hurry.Err() == nil && q.Replays.waits():
		return q.Replays, q.hurry
	}
	return nil, nil
}

// pause waits for d (0: for ever), or until something more urgent may have come. A drain ends it,
// and one that begins while draining is short.
func (q *Queue) pause(d time.Duration) {
	if q.hurry.Err() != nil {
		retry.Sleep(q.ctx, min(d, backoffDrain))
		return
	}
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-q.wake:
	case <-q.hurry.Done():
	}
}

// wake has a pause end.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
