package past

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector/projectortest"
)

// The worker works for its share of the time, and no longer.
func TestShare(t *testing.T) {
	for share, period := range map[float64]time.Duration{0: 2 * time.Second, 0.25: 4 * time.Second, 1: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			target := &fakeTarget{name: "raw", steps: 5, takes: time.Second}
			j := start(t, newQueue(t, Options{Targets: []Target{target}, Share: share}))
			awaitState(t, j, create(t, j, "raw").ID, StateDone)
			for i := 1; i < len(target.began); i++ {
				if d := target.began[i].Sub(target.began[i-1]); d != period {
					t.Errorf("a share of %v: %v between two steps of a second, want %v", share, d, period)
				}
			}
		})
	}
}

// A pause depends on the time that a step worked, not on the time that the step waited.
func TestShareOfWhatAStepSaysItWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := &workedTarget{fakeTarget{name: "raw", steps: 3, takes: 10 * time.Second}}
		j := start(t, newQueue(t, Options{Targets: []Target{target}}))
		awaitState(t, j, create(t, j, "raw").ID, StateDone)
		if d := target.began[1].Sub(target.began[0]); d != 11*time.Second {
			t.Errorf("%v between two steps, want 11s", d)
		}
	})
}

type workedTarget struct{ fakeTarget }

func (w *workedTarget) Step(ctx context.Context, r Range, at json.RawMessage) (Step, error) {
	s, err := w.fakeTarget.Step(ctx, r, at)
	s.Worked = time.Second
	return s, err
}

// The backlog of an outage goes before a replay, even between two steps of the replay.
func TestBacklogGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		target, sink := &fakeTarget{name: "raw", steps: 4, takes: time.Second}, &slowView{}
		j := start(t, newQueue(t, Options{Journal: m, View: sink, Targets: []Target{target}}))
		id := create(t, j, "raw").ID
		await(t, j, id, "two steps", func(job Job) bool { return job.Parts[0].Events == 2 })
		sink.down.Store(true)
		m.Append(journaltest.Event("a", 1, "cpu", nil))
		if err := j.Take(journal.Span{First: 1, Last: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		job, err := j.Get(id)
		if n := target.count(); err != nil || n != 2 || job.State != StateRunning || !strings.Contains(job.LastError, "outage") {
			t.Fatalf("%d steps, %+v, %v", n, job, err)
		}
		sink.down.Store(false)
		if job := awaitState(t, j, id, StateDone); job.LastError != "" {
			t.Errorf("%+v", job)
		}
		sink.down.Store(true)
		if err := j.Take(journal.Span{First: 1, Last: 1}); err != nil {
			t.Fatal(err)
		}
		id = create(t, j, "raw").ID
		time.Sleep(time.Hour)
		if job, err := j.Cancel(id); err != nil || job.State != StateCanceled {
			t.Fatalf("%+v, %v", job, err)
		}
		synctest.Wait()
		if n := target.count(); n != 4 {
			t.Errorf("%d steps", n)
		}
	})
}

// slowView is a View that can be down.
type slowView struct {
	down atomic.Bool
}

func (*slowView) Name() string       { return "view" }
func (*slowView) Projection() string { return "view" }
func (*slowView) Begin(Chunk) error  { return nil }
func (*slowView) End() error         { return nil }

func (v *slowView) Apply(context.Context, []journal.Record) (Counts, error) {
	if v.down.Load() {
		return Counts{}, errAway
	}
	return Counts{}, nil
}

func (*slowView) Find(context.Context, Range) (Found, error) { return Found{}, errAway }

func TestJobsRunOneAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		raw := &fakeTarget{name: "raw", steps: 2, takes: time.Second}
		j := newQueue(t, Options{Targets: []Target{raw, &fakeTarget{name: "aggregates", steps: 2, takes: time.Second}}})
		var ids []string
		for range 3 {
			ids = append(ids, create(t, j, "all").ID)
		}
		start(t, j)
		for i, id := range ids {
			awaitState(t, j, id, StateDone)
			for _, later := range ids[i+1:] {
				if job, err := j.Get(later); err != nil || job.Parts[0].Events > 0 {
					t.Errorf("%+v, %v before %s was done", job, err, id)
				}
			}
		}
		if len(raw.ranges) != 3 {
			t.Errorf("%d runs", len(raw.ranges))
		}
	})
}

// A target that is away for an hour does not fail the job. The error is shown, logged once a
// minute, and cleared when the target is back.
func TestATargetThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		target := &fakeTarget{name: "raw", steps: 3, takes: time.Second}
		j := start(t, newQueue(t, Options{Targets: []Target{target}, Registerer: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
		id := create(t, j, "raw").ID
		await(t, j, id, "a step", func(job Job) bool { return job.Parts[0].Events == 1 })
		target.setFail(func() error { return errAway })
		time.Sleep(time.Hour)
		job, err := j.Get(id)
		if err != nil || job.State != StateRunning || job.LastError != errAway.Error() {
			t.Fatalf("%+v, %v", job, err)
		}
		target.setFail(nil)
		since := time.Now()
		if job := awaitState(t, j, id, StateDone); job.LastError != "" {
			t.Errorf("%+v", job)
		}
		if d := time.Since(since); d > backoff.Last+10*time.Second {
			t.Errorf("it took %v to see that it is back", d)
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "cannot go on"); n < 40 || n > 61 {
			t.Errorf("%d lines in an hour", n)
		}
		if n := strings.Count(log.String(), "goes on"); n != 1 {
			t.Errorf("%d lines that it goes on", n)
		}
		if said := log.String(); !strings.Contains(said, `msg="a replay has ended" replay=`+id+` state=done raw="done: 3 events, `) || strings.Contains(said, "Projection:") {
			t.Errorf("its end is logged as %s", said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:])
		}
		if n := value(t, reg, "pulse_projector_replay_failures_total"); n < 100 {
			t.Errorf("%v failures counted", n)
		}
	})
}

func TestStopAndCancelEndABackOffAndAPauseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			fail  error
			takes time.Duration
		}{{errAway, 0}, {nil, time.Hour}} {
			target := &fakeTarget{name: "raw", steps: 3, takes: tt.takes}
			target.setFail(func() error { return tt.fail })
			j := newQueue(t, Options{Targets: []Target{target}, Share: 0.01})
			if err := j.Start(context.Background()); err != nil {
				t.Fatal(err)
			}
			first, second := create(t, j, "raw").ID, create(t, j, "raw").ID
			time.Sleep(90 * time.Minute)
			began := time.Now()
			if _, err := j.Cancel(first); err != nil {
				t.Fatal(err)
			}
			awaitState(t, j, second, StateRunning)
			if job := awaitState(t, j, first, StateCanceled); job.LastError != "" {
				t.Errorf("%+v", job)
			}
			stop(t, j)
			if d := time.Since(began); d > time.Second {
				t.Errorf("it took %v", d)
			}
		}
	})
}

// A job that is canceled while a step ends stays canceled.
func TestCancelAsAStepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{name: "raw", steps: 3}
		j := newQueue(t, Options{Targets: []Target{target}})
		id, calls := create(t, j, "raw").ID, 0
		target.setFail(func() error { // called by Plan and by each Step
			if calls++; calls == 3 {
				_, err := j.Cancel(id)
				return err
			}
			return nil
		})
		start(t, j)
		synctest.Wait()
		if job, err := j.Get(id); err != nil || job.State != StateCanceled || job.Parts[0].Events != 1 || target.count() != 2 {
			t.Errorf("%+v after %d steps, %v", job, target.count(), err)
		}
	})
}

// A cancellation during the save of a step is neither lost nor overwritten.
func TestCancelWhileAStepIsSaved(t *testing.T) {
	j := newQueue(t, Options{Targets: []Target{&fakeTarget{name: "raw", steps: 3}}})
	id, saves, canceled := create(t, j, "raw").ID, 0, make(chan error, 1)
	j.update = func(f func(*bbolt.Tx) error) error {
		if saves++; saves == 3 { // the saves of the start, the plan and the first step
			go func() {
				_, err := j.Cancel(id)
				canceled <- err
			}()
			select {
			case err := <-canceled:
				canceled <- err
			case <-time.After(50 * time.Millisecond): // Cancel waits for this save
			}
		}
		return j.Replays.o.DB.Update(f)
	}
	start(t, j)
	if err := <-canceled; err != nil {
		t.Fatal(err)
	}
	if job := awaitState(t, j, id, StateCanceled); job.Parts[0].Events == 0 || job.Parts[0].State != StateCanceled {
		t.Errorf("%+v", job)
	}
}

// A save that pulse.db refuses is tried again. Meanwhile no step is done a second time, and nothing
// is shown that is not saved.
func TestACursorThatCannotBeSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := &fakeTarget{name: "raw", steps: 3, takes: time.Second}
		j := newQueue(t, Options{Targets: []Target{target}})
		var full atomic.Bool
		j.update = func(f func(*bbolt.Tx) error) error {
			if full.Load() {
				return errors.New("no space left on device")
			}
			return j.Replays.o.DB.Update(f)
		}
		start(t, j)
		id := create(t, j, "raw").ID
		await(t, j, id, "a step", func(job Job) bool { return job.Parts[0].Events == 1 })
		full.Store(true)
		time.Sleep(time.Hour)
		job, err := j.Get(id)
		if n := target.count(); err != nil || n != 2 || job.Parts[0].Events != 1 || !strings.Contains(job.LastError, "no space") {
			t.Fatalf("%d steps, %+v, %v", n, job, err)
		}
		if _, err := j.Cancel(id); err == nil {
			t.Error("a cancel that is not saved was accepted")
		}
		if _, err := j.Create(Request{Projections: []string{"raw"}, From: time.Unix(1, 0)}); err == nil || len(j.List()) != 1 {
			t.Errorf("a job that is not saved was accepted: %v", err)
		}
		full.Store(false)
		awaitState(t, j, id, StateDone)
		if !slices.Equal(target.done, []int{3, 2, 1}) {
			t.Errorf("steps %v", target.done)
		}
	})
}

func TestStopIsBoundedByItsContext(t *testing.T) {
	target := &stuckTarget{fakeTarget{name: "raw", steps: 1}, make(chan struct{}), make(chan struct{})}
	j := newQueue(t, Options{Targets: []Target{target}})
	if err := j.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	create(t, j, "raw")
	<-target.stuck
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := j.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop returned %v", err)
	}
	close(target.free)
	stop(t, j)
}

type stuckTarget struct {
	fakeTarget
	stuck, free chan struct{}
}

func (s *stuckTarget) Plan(context.Context, Range) (Plan, error) {
	close(s.stuck)
	<-s.free
	return Plan{}, errAway
}

func TestDryRunsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		target := &fakeTarget{name: "raw", steps: 3}
		j := start(t, newQueue(t, Options{Targets: []Target{target}, Registerer: reg}))
		for _, dry := range []bool{true, false} {
			job, err := j.Create(Request{Projections: []string{"raw"}, From: time.Now().Add(-time.Hour), DryRun: dry})
			if err != nil {
				t.Fatal(err)
			}
			if job := awaitState(t, j, job.ID, StateDone); job.DryRun != dry || job.Parts[0].Points != 9 {
				t.Errorf("%+v", job)
			}
			want := 0.0
			if !dry {
				want = 9
			}
			if n := value(t, reg, "pulse_projector_replay_points_total"); n != want {
				t.Errorf("dry %t: %v points counted", dry, n)
			}
		}
		if !target.ranges[0].DryRun || target.ranges[1].DryRun {
			t.Errorf("runs %+v", target.ranges)
		}
	})
}

func value(tb testing.TB, reg *prometheus.Registry, name string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	tb.Fatalf("no metric %s", name)
	return 0
}
