package projector_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// A sink that lost everything gets the whole journal again. Rewind saves the new position before it
// returns.
func TestRunnerRewind(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		start(t, r)
		time.Sleep(3 * time.Second)
		if saved, err := positions.Load("p"); err != nil || saved != 10 {
			t.Fatalf("saved %d before (%v)", saved, err)
		}
		if err := r.Rewind(); err != nil {
			t.Fatal(err)
		}
		if saved, err := positions.Load("p"); err != nil || saved != 0 {
			t.Errorf("saved %d after Rewind (%v)", saved, err)
		}
		m.Append(event("a", 11))
		time.Sleep(3 * time.Second)
		r.Stop()
		if s := r.Status(); s.Applied != 11 || s.Position != 11 {
			t.Errorf("status %+v", s)
		}
		if n := len(p.seqs); n < 20 || p.seqs[n-1] != 11 || p.seqs[n-11] != 1 {
			t.Errorf("applied %v", p.seqs)
		}
		if last := p.spans[len(p.spans)-1]; last.Position != 0 || last.First != 1 {
			t.Errorf("it began at %+v", last)
		}
	})
}

// A call that was under way during a rewind does not save its old position over the new one.
func TestRunnerRewindSurvivesAStop(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1))
		positions := projector.NewPositions(db)
		var r *projector.Runner
		p := &recorder{name: "p", flush: func() (uint64, error) { return 1, r.Rewind() }}
		r = newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		start(t, r)
		time.Sleep(3 * time.Second)
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if saved, err := positions.Load("p"); err != nil || saved != 0 {
			t.Errorf("saved %d (%v)", saved, err)
		}
	})
}
