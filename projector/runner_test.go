package projector_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRunnerAppliesEverythingOnceAndSavesTheLast(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		positions := projector.NewPositions(db)
		p := &projectortest.Recorder{ID: "p"}
		for i := range 25 {
			m.Append(projectortest.Event("web1", int64(i)))
		}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, BatchRecords: 10})
		projectortest.Start(t, r)
		synctest.Wait()
		if got := p.Applied(); !slices.Equal(got, projectortest.Numbers(1, 25)) {
			t.Fatalf("applied %v", got)
		}
		if got := p.Batches(); !slices.Equal(got, []int{10, 10, 5}) {
			t.Fatalf("batches of %v", got)
		}
		m.Append(projectortest.Event("web1", 26))
		m.AppendRelay(codec.RelayEvent{Relay: "web1", Kind: codec.RelayConnected})
		synctest.Wait()
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if seq, err := positions.Load("p"); err != nil || seq != 27 {
			t.Fatalf("the saved position is %d, %v", seq, err)
		}
		s := r.Status()
		if s.State != projector.StateDrained || s.Position != 27 || s.Applied != 27 || s.Lag != 0 || !s.AppliedTime.Equal(time.Unix(0, 26)) {
			t.Fatalf("status %+v", s)
		}
		if n := m.OpenReaders(); n != 0 {
			t.Fatalf("%d readers are left open", n)
		}
		// The next runner goes on after record 27.
		m.Append(projectortest.Event("web1", 28))
		p2 := &projectortest.Recorder{ID: "p"}
		r = projectortest.NewRunner(t, projector.RunnerOptions{Projection: p2, Journal: m, Positions: positions})
		projectortest.Start(t, r)
		synctest.Wait()
		r.Stop()
		if got := p2.Applied(); !slices.Equal(got, []uint64{28}) {
			t.Fatalf("after a restart %v was applied", got)
		}
		if got := p2.Origins(); len(got) != 1 || got[0] != (projector.Origin{Position: 27, First: 1, Last: 28}) {
			t.Fatalf("it began at %+v", got)
		}
	})
}

func TestRunnerOffersTheSameBatchUntilTheSinkTakesIt(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var log logtest.Buffer
		reg := prometheus.NewRegistry()
		var down atomic.Bool
		down.Store(true)
		var offered [][2]uint64
		var at []time.Duration
		began := time.Now()
		var mu sync.Mutex // guards offered and at
		p := &projectortest.Recorder{ID: "p", OnApply: func(records []journal.Record) error {
			mu.Lock()
			defer mu.Unlock()
			offered = append(offered, [2]uint64{records[0].Seq, records[len(records)-1].Seq})
			at = append(at, time.Since(began))
			if down.Load() {
				return errors.New("sink is down")
			}
			return nil
		}}
		positions := projector.NewPositions(db)
		m.Append(projectortest.Event("a", 1), projectortest.Event("a", 2), projectortest.Event("a", 3))
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Logger: log.Logger(), Registerer: reg})
		projectortest.Start(t, r)
		time.Sleep(5*time.Minute + 10*time.Second)
		synctest.Wait()
		m.Append(projectortest.Event("a", 4))
		s := r.Status()
		if s.State != projector.StateFailing || s.LastError != "sink is down" || s.Failures == 0 || !s.FailingSince.Equal(began) {
			t.Fatalf("status while the sink is down: %+v", s)
		}
		if seq, _ := positions.Load("p"); seq != 0 {
			t.Fatalf("the position moved to %d although the sink took nothing", seq)
		}
		if n := log.Count("cannot go on"); n < 3 || n > 6 {
			t.Errorf("%d log lines in five minutes, want about one a minute", n)
		}
		mu.Lock()
		attempts := len(at)
		for i, o := range offered {
			if o != [2]uint64{1, 3} {
				t.Fatalf("attempt %d was given %v", i, o)
			}
		}
		var last time.Duration
		for i := 1; i < len(at); i++ {
			pause := at[i] - at[i-1]
			if pause > 30*time.Second || pause < last*7/10 {
				t.Fatalf("pause %d is %v after %v: not a capped doubling", i, pause, last)
			}
			last = pause
		}
		mu.Unlock()
		if last < 20*time.Second {
			t.Fatalf("the last pause is %v only", last)
		}
		down.Store(false)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.State != projector.StateLive || s.LastError != "" || !s.FailingSince.IsZero() || s.Applied != 4 {
			t.Fatalf("status after it came back: %+v", s)
		}
		if n := log.Count("the projection goes on\""); n != 1 {
			t.Errorf("%d lines of recovery, want 1", n)
		}
		if n := projectortest.Metric(t, reg, "pulse_projector_failures_total"); n < float64(attempts) || n > float64(attempts+1) {
			t.Errorf("%v failures counted, after the %d attempts that had failed before it came back", n, attempts)
		}
		r.Stop()
	})
}

func TestRunnerLingers(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Linger: 200 * time.Millisecond})
		projectortest.Start(t, r)
		for i := range 1000 { // one event each millisecond, for a second
			m.Append(projectortest.Event("a", int64(i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := p.Applied(); !slices.Equal(got, projectortest.Numbers(1, 1000)) {
			t.Fatalf("%d records applied", len(got))
		}
		if n := len(p.Batches()); n > 8 {
			t.Fatalf("%d batches in a second at a linger of 200 ms", n)
		}
		r.Stop()
	})
}

func TestRunnerTicksOnceASecondBusyOrIdle(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var ticks atomic.Int32
		var held atomic.Uint64
		p := &projectortest.Recorder{ID: "p",
			Position: func(uint64) uint64 { return held.Load() },
			OnTick: func(time.Time) (uint64, error) {
				ticks.Add(1)
				return held.Load(), nil
			}}
		positions := projector.NewPositions(db)
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		projectortest.Start(t, r)
		time.Sleep(10*time.Second + time.Millisecond)
		if n := ticks.Swap(0); n < 9 || n > 10 {
			t.Fatalf("%d ticks in 10 idle seconds", n)
		}
		for range 1000 {
			m.Append(projectortest.Event("a", 1))
			time.Sleep(10 * time.Millisecond)
		}
		if n := ticks.Load(); n < 9 || n > 11 {
			t.Fatalf("%d ticks in 10 busy seconds", n)
		}
		if s := r.Status(); s.Position != 0 || s.Applied != 1000 {
			t.Fatalf("the position did not stay with the projection: %+v", s)
		}
		held.Store(990)
		time.Sleep(2 * time.Second)
		if seq, _ := positions.Load("p"); seq != 990 {
			t.Fatalf("a tick's position was not saved: %d", seq)
		}
		r.Stop()
	})
}

func TestRunnerSavesPositionsOnceASecond(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		reg := prometheus.NewRegistry()
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Registerer: reg})
		projectortest.Start(t, r)
		for range 1000 {
			m.Append(projectortest.Event("a", 1))
			time.Sleep(10 * time.Millisecond)
		}
		if n := projectortest.Metric(t, reg, "pulse_projector_position_saves_total"); n < 9 || n > 21 {
			t.Fatalf("%v positions saved in 10 s", n)
		}
		r.Stop()
	})
}

func TestRunnerStartPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(projectortest.Event("a", int64(i+1)))
		}
		for _, tt := range []struct {
			name string
			from projector.StartPolicy
			want []uint64
		}{
			{"time", projector.FromTime(time.Unix(0, 7)), projectortest.Numbers(7, 11)},
			{"time in the future", projector.FromTime(time.Unix(0, 100)), projectortest.Numbers(11, 11)},
			{"end", projector.FromEnd(), projectortest.Numbers(11, 11)},
		} {
			m.Cut(10)
			p := &projectortest.Recorder{ID: tt.name}
			r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Start: tt.from})
			projectortest.Start(t, r)
			time.Sleep(3 * time.Second)
			m.Append(projectortest.Event("a", 200))
			if err := r.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := p.Applied(); !slices.Equal(got, tt.want) {
				t.Errorf("%s: applied %v, want %v", tt.name, got, tt.want)
			}
			if s := r.Status(); s.Lag != 0 || s.Lost != 0 {
				t.Errorf("%s: status %+v", tt.name, s)
			}
		}
	})
}

func TestRunnerThatFoundNothingToStartFromIsDrainedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1), projectortest.Event("a", 2))
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: &projectortest.Recorder{ID: "p"}, Journal: m, Start: projector.FromTime(time.Unix(0, 100))})
		projectortest.Start(t, r)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.Lag != 0 || s.Applied != 2 || s.State != projector.StateLive {
			t.Fatalf("status %+v", s)
		}
		began := time.Now()
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 0 {
			t.Fatalf("draining took %v", d)
		}
	})
}

func TestRunnerLag(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var down atomic.Bool
		down.Store(true)
		p := &projectortest.Recorder{ID: "p", OnApply: func(records []journal.Record) error {
			if down.Load() && records[0].Seq > 1 {
				return errors.New("down")
			}
			return nil
		}}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		m.Append(projectortest.Event("a", time.Now().UnixNano()))
		synctest.Wait()
		for range 60 {
			m.Append(projectortest.Event("a", time.Now().UnixNano()))
			time.Sleep(time.Second)
		}
		s := r.Status()
		if s.Lag < 25 || s.Lag > 60 || s.LagSeconds < 25 || s.LagSeconds > 61 {
			t.Fatalf("behind by %d records and %v s after a minute", s.Lag, s.LagSeconds)
		}
		down.Store(false)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.Lag != 0 || s.LagSeconds != 0 {
			t.Fatalf("status %+v", s)
		}
		r.Stop()
	})
}

func TestRunnerOptionsAndMisuse(t *testing.T) {
	m := projectortest.NewMemory()
	for _, o := range []projector.RunnerOptions{
		{}, {Journal: m}, {Projection: &projectortest.Recorder{ID: "p"}}, {Projection: &projectortest.Recorder{ID: "p"}, Journal: m},
	} {
		if _, err := projector.NewRunner(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: &projectortest.Recorder{ID: "p"}, Journal: m, Start: projector.FromEnd()})
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("draining a runner that was not started: %v", err)
	}
	if err := r.Start(t.Context()); err == nil {
		t.Error("started after it was stopped")
	}
	m.Fail(errors.New("the journal is broken"))
	r = projectortest.NewRunner(t, projector.RunnerOptions{Projection: &projectortest.Recorder{ID: "p"}, Journal: m, Start: projector.FromEnd()})
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "the journal is broken") {
		t.Errorf("started on a broken journal: %v", err)
	}
	r.Stop()
}
