package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/projector"
)

const (
	busyEvery = time.Second // how often Busy is asked while it is true
	// persistEvery is how often steps are made durable for a Persister, and then their progress is saved.
	persistEvery = 5 * time.Second
	keepPatience = 5 * time.Second // at a stop
)

// backoff is the pause after a failure.
var backoff = retry.Backoff{First: 250 * time.Millisecond, Last: 30 * time.Second}

// run works off the jobs until Stop.
func (j *Jobs) run() {
	defer close(j.done)
	for j.ctx.Err() == nil {
		r := j.next()
		if r == nil {
			select {
			case <-j.wake:
			case <-j.ctx.Done():
			}
			continue
		}
		j.work(r)
	}
}

// next is the oldest unfinished job.
func (j *Jobs) next() *record {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range j.records {
		if !r.State.final() {
			return r
		}
	}
	return nil
}

// worker runs one job. It belongs to the goroutine of Jobs.
type worker struct {
	j        *Jobs
	ctx      context.Context // ends with Stop or Cancel
	r        *record         // as others see it
	shown    Persister       // of the part whose progress is shown and not saved yet; else nil
	savedAt  time.Time       // when r was saved
	failures retry.Failures
}

// errEnded ends the work on a job: it was canceled, or Jobs was stopped.
var errEnded = errors.New("ended")

// work takes a job to its end, or as far as Stop and Cancel let it.
func (j *Jobs) work(r *record) {
	ctx, cancel := context.WithCancel(j.ctx)
	defer cancel()
	j.mu.Lock()
	j.current = current{seq: r.seq, cancel: cancel}
	j.mu.Unlock()
	j.metrics.running.Set(1)
	w := &worker{j: j, ctx: ctx, r: r}
	err := w.all()
	if j.ctx.Err() != nil {
		w.keep()
	}
	if err != nil && !errors.Is(err, errEnded) {
		j.log.Error("a replay cannot be done", "replay", r.ID, "error", err)
		err = w.change(func(r *record) { r.finish(StateFailed, j.o.Now().UTC(), err.Error()) })
	}
	if err == nil {
		attrs := []any{"replay", r.ID, "state", w.r.State}
		var notes []string // many are of all parts
		for _, p := range w.r.Parts {
			attrs = append(attrs, p.Projection, p.summary())
			for _, note := range p.Notes {
				if !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
			}
		}
		if len(notes) > 0 {
			attrs = append(attrs, "notes", strings.Join(notes, "; "))
		}
		j.log.Info("a replay has ended", attrs...)
	}
	j.metrics.running.Set(0)
	j.mu.Lock()
	j.current = current{}
	j.mu.Unlock()
}

// all plans all parts, so that the whole is known, and then does one after the other.
func (w *worker) all() error {
	runs, sinks := make([]Run, len(w.r.Parts)), make([]Persister, len(w.r.Parts))
	for i := range w.r.Parts {
		for _, t := range w.j.o.Targets {
			if t.Name() == w.r.Parts[i].Projection {
				runs[i] = t.Run(Range{From: w.r.From, To: w.r.To, DryRun: w.r.DryRun, Quiet: w.j.o.Quiet})
				sinks[i], _ = t.(Persister)
			}
		}
		if runs[i] == nil {
			return fmt.Errorf("%w: there is no projection %s any more", ErrInvalid, w.r.Parts[i].Projection)
		}
	}
	if err := w.change(func(r *record) {
		if r.State = StateRunning; r.Started.IsZero() {
			r.Started = w.j.o.Now().UTC()
		}
	}); err != nil {
		return err
	}
	for i := range runs {
		if !w.r.Runs[i].Planned {
			if err := w.plan(i, runs[i]); err != nil {
				return err
			}
		}
	}
	w.j.mu.Lock()
	w.j.current.since = time.Now()
	w.j.current.left, _ = w.r.left()
	w.j.mu.Unlock()
	for i := range runs {
		for w.r.Parts[i].State != StateDone {
			if err := w.step(i, runs[i], sinks[i]); err != nil {
				return err
			}
		}
	}
	return w.change(func(r *record) { r.finish(StateDone, w.j.o.Now().UTC(), "") })
}

func (w *worker) plan(i int, run Run) error {
	var p Plan
	if err := w.attempt(func() (err error) {
		p, err = run.Plan(w.ctx)
		return err
	}); err != nil {
		return err
	}
	if err := w.change(func(r *record) {
		r.Runs[i] = progress{Planned: true, Cursor: p.Cursor, Total: p.Left, Left: p.Left, Quiet: w.j.o.Quiet}
		r.Parts[i].Lost += p.Lost
		r.Parts[i].note(p.Notes)
	}); err != nil {
		return err
	}
	w.j.metrics.count(w.r.Parts[i].Projection, w.r.DryRun, Counts{Lost: p.Lost})
	return nil
}

// step does one step, saves it if it is durable or made so, and pauses.
func (w *worker) step(i int, run Run, sink Persister) error {
	if err := w.quiet(); err != nil {
		return err
	}
	var s Step
	began := time.Now()
	if err := w.attempt(func() (err error) {
		began = time.Now() // the pauses of a row of failures are no work
		s, err = run.Step(w.ctx, w.r.Runs[i].Cursor)
		return err
	}); err != nil {
		return err
	}
	if s.Worked == 0 {
		s.Worked = time.Since(began)
	}
	w.j.metrics.seconds.Add(s.Worked.Seconds())
	change := w.change
	if sink != nil && !w.r.DryRun {
		if !s.Done && time.Since(w.savedAt) < persistEvery {
			change, w.shown = w.show, sink
		} else if err := w.attempt(func() error { return sink.Persist(w.ctx) }); err != nil {
			return err
		}
	}
	if err := change(func(r *record) {
		p := &r.Parts[i]
		p.State = StateRunning
		r.Runs[i].Cursor, r.Runs[i].Left = s.Cursor, s.Left
		p.add(s.Counts)
		p.note(s.Notes)
		for _, x := range s.Seen {
			r.Runs[i].Seen = r.Runs[i].Seen.Add(x, r.Runs[i].Quiet)
		}
		if s.Done {
			p.State = StateDone
			if quiet := r.Runs[i].Quiet; quiet > 0 {
				p.note(r.Runs[i].Seen.notes(r.From, r.until(w.j.o.Now()), quiet))
			}
			r.Runs[i].Cursor, r.Runs[i].Left = nil, 0
		}
	}); err != nil {
		return err
	}
	w.j.metrics.count(w.r.Parts[i].Projection, w.r.DryRun, s.Counts)
	return w.pause(time.Duration(float64(s.Worked) * (1/w.j.o.Share - 1)))
}

// quiet waits until nothing more urgent is under way.
func (w *worker) quiet() error {
	if w.j.o.Busy == nil || !w.j.o.Busy() {
		return nil
	}
	w.say("it waits until what an outage has left is filled in")
	for w.j.o.Busy() {
		if err := w.pause(busyEvery); err != nil {
			return err
		}
	}
	w.say("")
	return nil
}

// change changes the job and saves it, however long that takes. It is errEnded if the job has ended meanwhile.
func (w *worker) change(f func(*record)) error {
	err := w.changeWith(w.j.change, f)
	if err == nil {
		w.savedAt, w.shown = time.Now(), nil
	}
	return err
}

// keep saves what is shown, at a stop. If that fails the next start does a little again.
func (w *worker) keep() {
	if w.shown == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepPatience)
	defer cancel()
	err := w.shown.Persist(ctx)
	if err == nil {
		_, err = w.j.change(w.r.seq, func(r *record) bool { return !r.State.final() })
	}
	if err != nil {
		w.j.log.Warn("the progress of a replay cannot be saved; the next start does a little of it again", "replay", w.r.ID, "error", err)
	}
}

// show changes the job for others to see. It is saved with the next change.
func (w *worker) show(f func(*record)) error { return w.changeWith(w.j.show, f) }

func (w *worker) changeWith(change func(uint64, func(*record) bool) (*record, error), f func(*record)) error {
	return w.attempt(func() error {
		ended := false
		r, err := change(w.r.seq, func(r *record) bool {
			if ended = r.State.final(); !ended {
				f(r)
			}
			return !ended
		})
		if ended || errors.Is(err, ErrNotFound) {
			return errEnded
		}
		if err == nil {
			w.r = r
		}
		return err
	})
}

// attempt calls op until it succeeds, the job has ended, or the error says that it never will.
func (w *worker) attempt(op func() error) error {
	for {
		err := op()
		switch {
		case err == nil:
			w.recovered()
			return nil
		case errors.Is(err, errEnded) || errors.Is(err, ErrInvalid):
			return err
		case w.ctx.Err() != nil:
			return errEnded
		}
		failures := w.failures.Add()
		w.j.metrics.failures.Inc()
		w.say(err.Error())
		if w.failures.MayLog() {
			level := projector.FailureLevel(err)
			w.j.log.Log(context.Background(), level, "a replay cannot go on and tries again", "replay", w.r.ID, "error", err, "failures", failures)
			if level >= slog.LevelWarn {
				w.failures.Logged()
			}
		}
		if err := w.pause(backoff.Pause(failures)); err != nil {
			return err
		}
	}
}

func (w *worker) recovered() {
	failures, logged := w.failures.End()
	if failures == 0 {
		return
	}
	if logged {
		w.j.log.Info("a replay goes on", "replay", w.r.ID, "failures", failures)
	}
	w.say("")
}

// say sets what others see as the job's last error.
func (w *worker) say(what string) {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	w.j.current.lastError = what
}

// pause waits, unless the job ends.
func (w *worker) pause(d time.Duration) error {
	if w.ctx.Err() != nil || d > 0 && !retry.Sleep(w.ctx, d) {
		return errEnded
	}
	return nil
}
