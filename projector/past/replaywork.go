package past

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nanopack/pulse/projector"
)

const (
	// persistEvery is how often steps are made durable for a Persister, and then their progress is
	// saved.
	persistEvery = 5 * time.Second
	leaveTimeout = 5 * time.Second // at a stop
)

// run is the job under way. It belongs to the worker.
type run struct {
	ctx     context.Context // ends with Stop, Drain or Cancel
	cancel  context.CancelFunc
	r       *record   // as others see it
	targets []target  // by part
	done    *Step     // was done, and is still to be saved
	unsaved *target   // its progress is shown and not saved yet; nil: all is saved
	savedAt time.Time // when r was saved
}

// errEnded reports that the job under way was canceled.
var errEnded = errors.New("ended")

// waits reports whether there is an unfinished job.
func (j *Replays) waits() bool { return j.next() != nil }

// next is the oldest unfinished job.
func (j *Replays) next() *record {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if !r.State.final() {
			return r
		}
	}
	return nil
}

// step does one step of the oldest unfinished job: it begins the job, plans a part, does a step of
// one, or ends it.
func (j *Replays) step(ctx context.Context) (rest time.Duration, err error) {
	r := j.next()
	if r == nil {
		return 0, nil // it was canceled just now
	}
	if j.run == nil || j.run.r.seq != r.seq {
		j.begin(ctx, r)
	}
	rest, err = j.advance(j.run)
	switch {
	case err == nil:
	case errors.Is(err, ErrInvalid):
		j.log.Error("a replay cannot be done", "replay", r.ID, "error", err)
		why := err.Error()
		err = j.note(true, func(r *record) { r.finish(StateFailed, j.o.Now().UTC(), why) })
	case ctx.Err() == nil && j.run.ctx.Err() != nil:
		err = errEnded
	}
	if errors.Is(err, errEnded) {
		j.close()
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	j.recovered()
	if j.run.r.State.final() {
		j.log.Info("a replay has ended", j.run.r.summary()...)
		j.close()
	}
	return rest, nil
}

// begin makes a job the one under way.
func (j *Replays) begin(ctx context.Context, r *record) {
	j.close()
	j.run = &run{r: r}
	j.run.ctx, j.run.cancel = context.WithCancel(ctx)
	j.mu.Lock()
	j.current = current{seq: r.seq, cancel: j.run.cancel}
	j.mu.Unlock()
	j.metrics.running.Set(1)
}

// close ends the work on the job under way.
func (j *Replays) close() {
	if j.run == nil {
		return
	}
	j.run.cancel()
	j.run = nil
	j.metrics.running.Set(0)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current = current{}
}

// leave is the end of the worker. It saves what is shown; if that fails the next start does a
// little again.
func (j *Replays) leave() {
	if j.run == nil {
		return
	}
	if t := j.run.unsaved; t != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
		defer cancel()
		err := t.sink.Persist(ctx)
		if err == nil {
			err = j.note(true, func(*record) {})
		}
		if err != nil && !errors.Is(err, errEnded) {
			j.log.Warn("the progress of a replay cannot be saved; the next start does a little of it again", "replay", j.run.r.ID, "error", err)
		}
	}
	j.close()
}

// advance does the next thing that is to be done for the job under way.
func (j *Replays) advance(w *run) (rest time.Duration, err error) {
	if w.targets == nil {
		return 0, j.open(w)
	}
	for i := range w.targets {
		if !w.r.Runs[i].Planned {
			return 0, j.plan(w, i)
		}
	}
	j.mu.Lock()
	if j.current.since.IsZero() {
		j.current.since = time.Now()
		j.current.left, _ = w.r.left()
	}
	j.mu.Unlock()
	for i := range w.targets {
		if w.r.Parts[i].State != StateDone {
			return j.do(w, i)
		}
	}
	return 0, j.note(true, func(r *record) { r.finish(StateDone, j.o.Now().UTC(), "") })
}

// open finds the targets of the job, and marks it as running.
func (j *Replays) open(w *run) error {
	var targets []target
	for _, p := range w.r.Parts {
		at := slices.Index(j.names, p.Projection)
		if at < 0 {
			return fmt.Errorf("%w: there is no projection %s any more", ErrInvalid, p.Projection)
		}
		targets = append(targets, j.targets[at])
	}
	err := j.note(true, func(r *record) {
		if r.State = StateRunning; r.Started.IsZero() {
			r.Started = j.o.Now().UTC()
		}
	})
	if err == nil {
		w.targets = targets
	}
	return err
}

// plan plans a part.
func (j *Replays) plan(w *run, i int) error {
	p, err := w.targets[i].Plan(w.ctx, j.timeRange(w.r))
	if err != nil {
		return err
	}
	err = j.note(true, func(r *record) {
		r.Runs[i] = progress{Planned: true, Cursor: p.Cursor, Total: p.Left, Left: p.Left, Quiet: j.o.Quiet}
		r.Parts[i].Lost += p.Lost
		r.Parts[i].note(p.Notes)
	})
	if err == nil {
		j.metrics.count(w.r.Parts[i].Projection, w.r.DryRun, Counts{Lost: p.Lost})
	}
	return err
}

func (j *Replays) timeRange(r *record) Range {
	return Range{From: r.From, To: r.To, Edge: r.Edge, DryRun: r.DryRun, Quiet: j.o.Quiet}
}

// do does one step of a part. It saves the progress if the step is durable, or makes it so.
func (j *Replays) do(w *run, i int) (rest time.Duration, err error) {
	t := &w.targets[i]
	if w.done == nil { // else it was done, and could not be saved
		began := time.Now()
		s, err := t.Step(w.ctx, j.timeRange(w.r), w.r.Runs[i].Cursor)
		if err != nil {
			return 0, err
		}
		if s.Worked == 0 {
			s.Worked = time.Since(began)
		}
		j.metrics.seconds.Add(s.Worked.Seconds())
		w.done = &s
	}
	s := *w.done
	buffers := t.sink != nil && !w.r.DryRun // what the target took may not be durable
	durable := !buffers || s.Done || time.Since(w.savedAt) >= persistEvery
	if buffers && durable {
		if err := t.sink.Persist(w.ctx); err != nil {
			return 0, err
		}
	}
	if err := j.note(durable, func(r *record) { j.add(r, i, s) }); err != nil {
		return 0, err
	}
	if w.done = nil; !durable {
		w.unsaved = t
	}
	j.metrics.count(w.r.Parts[i].Projection, w.r.DryRun, s.Counts)
	return time.Duration(float64(s.Worked) * (1/j.o.Share - 1)), nil
}

// add adds a step to a part.
func (j *Replays) add(r *record, i int, s Step) {
	p, at := &r.Parts[i], &r.Runs[i]
	p.State = StateRunning
	at.Cursor, at.Left = s.Cursor, s.Left
	p.Add(s.Counts)
	p.note(s.Notes)
	for _, x := range s.Seen {
		at.Seen = at.Seen.Add(x, at.Quiet)
	}
	if s.Done {
		p.State = StateDone
		if at.Quiet > 0 {
			p.note(at.Seen.notes(r.From, r.until(j.o.Now()), at.Quiet))
		}
		at.Cursor, at.Left = nil, 0
	}
}

// note changes the job under way. It is errEnded if the job has ended meanwhile. What is not
// durable is shown only: it is saved with the next change that is, and a crash undoes it.
func (j *Replays) note(durable bool, f func(*record)) error {
	save := j.save
	if !durable {
		save = func(*record, []*record) error { return nil }
	}
	ended := false
	r, err := j.change(save, j.run.r.seq, func(r *record) bool {
		if ended = r.State.final(); !ended {
			f(r)
		}
		return !ended
	})
	switch {
	case ended || errors.Is(err, ErrNotFound):
		return errEnded
	case err != nil:
		return err
	}
	if j.run.r = r; durable {
		j.run.savedAt, j.run.unsaved = time.Now(), nil
	}
	return nil
}

// failed notes a failure, and returns how many there are in a row.
func (j *Replays) failed(err error) int {
	j.metrics.failures.Inc()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current.lastError = err.Error()
	n := j.current.failures.Add()
	if j.current.failures.MayLog() &&
		projector.LogFailure(j.log, err, "a replay cannot go on and tries again", "replay", j.current.seq, "failures", n) {
		j.current.failures.Logged()
	}
	return n
}

// recovered ends a run of failures.
func (j *Replays) recovered() {
	j.mu.Lock()
	defer j.mu.Unlock()
	failures, logged := j.current.failures.End()
	if logged {
		j.log.Info("a replay goes on", "replay", j.current.seq, "failures", failures)
	}
	j.current.lastError = ""
}
