package past_test

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
	"github.com/nanopack/pulse/projector/projectortest"
)

// TestBacklogOnARealJournal fills in a backlog after two outages, with a restart before the sink
// comes back.
func TestBacklogOnARealJournal(t *testing.T) {
	j := journaltest.Open(t)
	db := projectortest.OpenDB(t)
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
		p.live.OnApply, p.behind.OnApply = apply, apply
	}
	appendEvents := func(n int) {
		for range n {
			journaltest.Append(t, j, projectortest.Event("web1", time.Now().UnixNano()))
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
	until("the backlog", func() bool { return p.status().Records == 0 && p.runner.Status().Applied == 200 })
	if got := p.behind.Applied(); len(got) < 100 || !slices.Equal(got, backwards(slices.Min(got), 200)) { // a first batch may be small
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
	if all = slices.Compact(all); !slices.Equal(all, projectortest.Numbers(1, 300)) {
		t.Errorf("applied %v", all)
	}
	if s := p.runner.Status(); s.Lost != 0 || s.Backlog != 0 || s.Position != 300 || s.SecondsToLoss != nil {
		t.Errorf("status %+v", s)
	}
}
