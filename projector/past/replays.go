package past

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/projector"
)

const (
	maxUnfinished = 16
	keepFinished  = 50
)

// Replays are the replays that were asked for, and what became of them.
type Replays struct {
	o       Options
	targets []target
	names   []string
	log     *slog.Logger
	metrics *metrics
	backlog *Backlog                          // goes first; nil: there is none
	update  func(func(*bbolt.Tx) error) error // DB.Update; tests make it fail
	wake    chan<- struct{}

	run *run // of the worker: the job under way; nil: none

	// changing is held from the beginning of a change to its end in the database. It is taken
	// before mu.
	changing sync.Mutex

	mu      sync.Mutex // guards what follows
	stopped bool
	records []*record // in the order of creation
	current current
}

// target is a Target with its sink, if that has to make durable what it took.
type target struct {
	Target
	sink projector.Persister
}

// current is the job under way as others see it.
type current struct {
	seq       uint64 // 0: none
	cancel    context.CancelFunc
	lastError string
	failures  retry.Failures
	since     time.Time // when the steps began that the estimate is made of; zero: they did not yet
	left      uint64    // what was left then
}

func newReplays(o Options, targets []target, backlog *Backlog, wake chan<- struct{}) (*Replays, error) {
	j := &Replays{o: o, targets: targets, log: o.Logger, backlog: backlog, update: o.DB.Update, wake: wake}
	for _, t := range targets {
		j.names = append(j.names, t.Name())
	}
	j.metrics = newMetrics(o.Registerer, j.names)
	return j, j.load()
}

// end has no replay be asked for, and no further step begin.
func (j *Replays) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = true
}

// Create adds a job after the others, durably. The error wraps ErrInvalid, ErrTooMany or
// ErrStopped, or is that of the database.
func (j *Replays) Create(q Request) (Job, error) {
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
	wake(j.wake)
	j.log.Info("a replay was asked for", "replay", r.ID, "projections", r.Projections, "from", r.From, "to", r.To, "edge", r.Edge, "dry_run", r.DryRun)
	return job, nil
}

// List returns all jobs, the newest first: the unfinished ones and the last 50 of the others. It is
// never nil.
func (j *Replays) List() []Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	jobs := make([]Job, 0, len(j.records))
	for _, r := range slices.Backward(j.records) {
		jobs = append(jobs, j.view(r))
	}
	return jobs
}

// Get returns a job. The error is ErrNotFound.
func (j *Replays) Get(id string) (Job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.find(id); r != nil {
		return j.view(r), nil
	}
	return Job{}, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Cancel ends a job, durably, and leaves what it has written. A job that has ended stays as it is.
// The error is ErrNotFound, or that of the database.
func (j *Replays) Cancel(id string) (Job, error) {
	j.mu.Lock()
	r := j.find(id)
	j.mu.Unlock()
	if r == nil {
		return Job{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	canceled := false
	r, err := j.change(j.save, r.seq, func(r *record) bool {
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
			wake(j.wake)
		}
	}
	return j.view(r), nil
}

// find returns a job by id, nil if there is none. mu is held.
func (j *Replays) find(id string) *record {
	for _, r := range j.records {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// view is a record for others. mu is held.
func (j *Replays) view(r *record) Job {
	job := r.clone().Job
	job.Created, job.Started, job.Finished = apijson.Time(job.Created), apijson.Time(job.Started), apijson.Time(job.Finished)
	if j.current.seq != r.seq || r.State != StateRunning {
		return job
	}
	job.LastError = j.current.lastError
	if j.backlog != nil && j.backlog.waits() {
		job.LastError = "it waits until what an outage has left is filled in"
	}
	left, _ := r.left()
	if elapsed := time.Since(j.current.since).Seconds(); !j.current.since.IsZero() && left < j.current.left && elapsed > 0 {
		seconds := float64(left) * elapsed / float64(j.current.left-left)
		job.SecondsLeft = &seconds
	}
	return job
}

// change changes a job: f changes a copy, and reports whether there is a change. Others see it when
// save has saved it, and deleted the jobs that go with it. change returns the job as it is now.
func (j *Replays) change(save func(r *record, forget []*record) error, seq uint64, f func(*record) bool) (*record, error) {
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
func (j *Replays) outdated(another uint64) []*record {
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
