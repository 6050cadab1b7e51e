package projector_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
)

// TestRunnerOnARealJournal takes a projection through a journal that grows, with a sink that fails at times, and over
// restarts: every record is applied, in order, and only what was not saved comes twice.
func TestRunnerOnARealJournal(t *testing.T) {
	j := journaltest.Open(t)
	positions := projector.NewPositions(openDB(t))
	var all []uint64
	for round := range 3 {
		n := 0
		p := &recorder{name: "p", apply: func([]journal.Record) error {
			if n++; n%3 == 0 {
				return errors.New("down")
			}
			return nil
		}}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: projector.FromJournal(j), Positions: positions, BatchRecords: 50})
		start(t, r)
		for i := range 100 {
			journaltest.Append(t, j, event("web1", int64(round*100+i)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := r.Drain(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.applied()...)
		if s := r.Status(); s.State != projector.StateDrained || s.Lag != 0 || s.Lost != 0 || s.Position != uint64(100*(round+1)) {
			t.Fatalf("status %+v", s)
		}
	}
	if !slices.Equal(all, numbers(1, 300)) {
		t.Fatalf("applied %v", all)
	}
	if r, err := projector.FromJournal(j).ReadFromTime(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	} else if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := projector.FromJournal(j).ReadFrom(1); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("reading a closed journal: %v", err)
	}
	if _, err := projector.FromJournal(j).ReadFromTime(time.Now()); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("reading a closed journal: %v", err)
	}
}

// TestBacklogOnARealJournal has two outages and a restart behind it before the sink comes back.
func TestBacklogOnARealJournal(t *testing.T) {
	j := journaltest.Open(t)
	db := openDB(t)
	source := projector.FromJournal(j)
	var down atomic.Bool
	var mu sync.Mutex // guards all
	var all []uint64
	sink := func(p *pair) {
		apply := func(records []journal.Record) error {
			if down.Load() {
				return errors.New("down")
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range records {
				all = append(all, records[i].Seq)
			}
			return nil
		}
		p.live.apply, p.behind.apply = apply, apply
	}
	appendEvents := func(n int) {
		for range n {
			journaltest.Append(t, j, event("web1", time.Now().UnixNano()))
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited a minute for %s", what)
			}
		}
	}
	down.Store(true)
	appendEvents(200)
	p := newPair(t, db, source, sink)
	p.start(t)
	until("the sink's failure in the status", func() bool {
		s := p.runner.Status()
		return s.State == projector.StateFailing && s.Lag == 200 && s.LagSeconds > 0 && s.SecondsToLoss != nil
	})
	down.Store(false)
	until("the backlog", func() bool { return p.backlog.Status().Records == 0 && p.runner.Status().Applied == 200 })
	if got := p.behind.applied(); len(got) < 100 || !slices.Equal(got, backwards(slices.Min(got), 200)) { // a first batch may be small
		t.Errorf("filled in %v", got)
	}
	down.Store(true)
	appendEvents(100)
	until("the second failure", func() bool { return p.runner.Status().State == projector.StateFailing })
	p.stop()
	p = newPair(t, db, source, sink)
	p.start(t)
	down.Store(false)
	until("the second backlog", func() bool { return p.runner.Status().Applied == 300 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := errors.Join(p.runner.Drain(ctx), p.backlog.Drain(ctx)); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(all)
	if all = slices.Compact(all); !slices.Equal(all, numbers(1, 300)) {
		t.Errorf("applied %v", all)
	}
	if s := p.runner.Status(); s.Lost != 0 || s.Backlog != 0 || s.Position != 300 || s.SecondsToLoss != nil {
		t.Errorf("status %+v", s)
	}
}
