package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
)

const (
	maxUnfinished = 16
	keepFinished  = 50

	defaultShare = 0.5
)

// Options configure Jobs. DB and Targets are required.
type Options struct {
	// DB keeps the jobs, bucket "replays".
	DB *bbolt.DB
	// Targets are what can be rebuilt, in the order in which a job does it.
	Targets []Target
	// Busy says that something more urgent is under way, an outage's backlog: no step is begun then (nil: never).
	Busy func() bool
	// Share is how much of the time the worker works: 0 < Share <= 1 (0: 0.5).
	Share float64
	// Quiet is how long the journal may hold nothing before a note of the job says so (0: two minutes).
	Quiet time.Duration
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// Jobs keeps and runs replays. Its methods may be called from any goroutine.
type Jobs struct {
	o       Options
	names   []string
	log     *slog.Logger
	metrics *metrics
	update  func(func(*bbolt.Tx) error) error // DB.Update; tests make it fail

	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	done   chan struct{} // closed when the worker has ended
	wake   chan struct{} // there may be a job

	// changing is held from the beginning of a change to its end in pulse.db; it is taken before mu.
	changing sync.Mutex

	mu      sync.Mutex // guards what follows
	started bool
	stopped bool
	records []*record // in the order of creation
	current current
}

// current is the job under way.
type current struct {
	seq       uint64 // 0: none
	cancel    context.CancelFunc
	lastError string
	since     time.Time // when the steps began that the estimate is made of
	left      uint64    // and what was left then
}

// New loads the jobs. Nothing runs before Start. The error says which option is wrong, or that pulse.db cannot be read.
func New(o Options) (*Jobs, error) {
	if o.DB == nil || len(o.Targets) == 0 {
		return nil, errors.New("replay: Options needs a DB and Targets")
	}
	if o.Share == 0 {
		o.Share = defaultShare
	}
	if !(o.Share > 0 && o.Share <= 1) {
		return nil, fmt.Errorf("replay: a share of %v; it must be more than 0 and at most 1", o.Share)
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
	j := &Jobs{o: o, log: o.Logger, update: o.DB.Update, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	for _, t := range o.Targets {
		if t.Name() == "" || t.Name() == All || slices.Contains(j.names, t.Name()) {
			return nil, fmt.Errorf("replay: a target is named %q; names are unique, not empty and not %q", t.Name(), All)
		}
		j.names = append(j.names, t.Name())
	}
	j.metrics = newMetrics(o.Registerer, j.names)
	j.ctx, j.cancel = context.WithCancel(context.Background())
	if err := j.load(); err != nil {
		j.cancel()
		return nil, err
	}
	return j, nil
}

// Start begins with the oldest unfinished job. It fails if it was called before, or after Stop.
func (j *Jobs) Start() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.started || j.stopped {
		return errors.New("replay: Jobs can be started once only")
	}
	j.started = true
	go j.run()
	return nil
}

// Stop ends the step under way and waits for the worker, or until ctx ends, whose error it returns then. The job
// goes on after the next start. It may be called twice.
func (j *Jobs) Stop(ctx context.Context) error {
	j.mu.Lock()
	j.stopped = true
	started := j.started
	j.mu.Unlock()
	j.cancel()
	if !started {
		return nil
	}
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("replay: stopping: %w", context.Cause(ctx))
	}
}

// Create adds a job, durably, behind the others. The error wraps ErrInvalid or ErrTooMany, or is pulse.db's.
func (j *Jobs) Create(q Request) (Job, error) {
	r, err := newRecord(q, j.names, j.o.Now())
	if err != nil {
		return Job{}, err
	}
	j.changing.Lock()
	defer j.changing.Unlock()
	j.mu.Lock()
	stopped, unfinished := j.stopped, 0
	for _, r := range j.records {
		if !r.State.final() {
			unfinished++
		}
	}
	j.mu.Unlock()
	switch {
	case stopped:
		return Job{}, ErrStopped
	case unfinished >= maxUnfinished:
		return Job{}, fmt.Errorf("%w: %d; cancel one or wait", ErrTooMany, unfinished)
	}
	if err := j.save(r, nil); err != nil {
		return Job{}, err
	}
	j.mu.Lock()
	j.records = append(j.records, r)
	job := j.view(r)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
	j.log.Info("a replay was asked for", "replay", r.ID, "projections", r.Projections, "from", r.From, "to", r.To, "dry_run", r.DryRun)
	return job, nil
}

// List returns all jobs, the newest first: the unfinished ones and the last 50 of the others. It is never nil.
func (j *Jobs) List() []Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	jobs := make([]Job, 0, len(j.records))
	for _, r := range slices.Backward(j.records) {
		jobs = append(jobs, j.view(r))
	}
	return jobs
}

// Get returns a job. The error is ErrNotFound.
func (j *Jobs) Get(id string) (Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.find(id); r != nil {
		return j.view(r), nil
	}
	return Job{}, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Cancel ends a job, durably, and leaves what it has written. A job that has ended stays as it is. The error is
// ErrNotFound or pulse.db's.
func (j *Jobs) Cancel(id string) (Job, error) {
	j.mu.Lock()
	r := j.find(id)
	j.mu.Unlock()
	if r == nil {
		return Job{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	canceled := false
	r, err := j.change(r.seq, func(r *record) bool {
		if canceled = !r.State.final(); canceled {
			r.finish(StateCanceled, j.o.Now().UTC(), "")
		}
		return canceled
	})
	if err != nil {
		return Job{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if canceled {
		j.log.Info("a replay was canceled", "replay", id)
		if j.current.seq == r.seq {
			j.current.cancel()
		}
	}
	return j.view(r), nil
}

// find returns a job by id, nil if there is none. mu is held.
func (j *Jobs) find(id string) *record {
	for _, r := range j.records {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// view is a record for others. mu is held.
func (j *Jobs) view(r *record) Job {
	job := r.clone().Job
	if j.current.seq != r.seq || r.State != StateRunning {
		return job
	}
	job.LastError = j.current.lastError
	left, _ := r.left()
	if elapsed := time.Since(j.current.since).Seconds(); !j.current.since.IsZero() && left < j.current.left && elapsed > 0 {
		seconds := float64(left) * elapsed / float64(j.current.left-left)
		job.SecondsLeft = &seconds
	}
	return job
}

// change changes a job, durably: f changes a copy, and says whether there is a change. The jobs that others see change
// when it is saved. It returns the job as it is now.
func (j *Jobs) change(seq uint64, f func(*record) bool) (*record, error) {
	return j.changeAnd(j.save, seq, f)
}

// show is change without saving: a crash undoes it. A state that is final is not for it.
func (j *Jobs) show(seq uint64, f func(*record) bool) (*record, error) {
	return j.changeAnd(func(*record, []*record) error { return nil }, seq, f)
}

func (j *Jobs) changeAnd(save func(*record, []*record) error, seq uint64, f func(*record) bool) (*record, error) {
	j.changing.Lock()
	defer j.changing.Unlock()
	j.mu.Lock()
	at := slices.IndexFunc(j.records, func(r *record) bool { return r.seq == seq })
	if at < 0 { // it had ended, and 50 others have since
		j.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, strconv.FormatUint(seq, 10))
	}
	old := j.records[at]
	j.mu.Unlock()
	next := old.clone()
	if !f(next) {
		return old, nil
	}
	next.settle()
	var forget []*record
	if next.State.final() {
		forget = j.outdated(seq)
	}
	if err := save(next, forget); err != nil {
		return nil, err
	}
	if next.State.final() {
		j.metrics.jobs.WithLabelValues(string(next.State)).Inc()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records[at] = next
	j.records = slices.DeleteFunc(j.records, func(r *record) bool { return slices.Contains(forget, r) })
	return next, nil
}

// outdated are the finished jobs that go when another has finished.
func (j *Jobs) outdated(another uint64) []*record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var finished []*record
	for _, r := range j.records {
		if r.State.final() && r.seq != another {
			finished = append(finished, r)
		}
	}
	return finished[:max(0, len(finished)-(keepFinished-1))]
}
