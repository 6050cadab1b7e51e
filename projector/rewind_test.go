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
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		projectortest.Start(t, r)
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
		m.Append(projectortest.Event("a", 11))
		time.Sleep(3 * time.Second)
		r.Stop()
		if s := r.Status(); s.Applied != 11 || s.Position != 11 {
			t.Errorf("status %+v", s)
		}
		if n := len(p.Applied()); n < 20 || p.Applied()[n-1] != 11 || p.Applied()[n-11] != 1 {
			t.Errorf("applied %v", p.Applied())
		}
		if last := p.Origins()[len(p.Origins())-1]; last.Position != 0 || last.First != 1 {
			t.Errorf("it began at %+v", last)
		}
	})
}

// A call that was under way during a rewind does not save its old position over the new one.
func TestRunnerRewindSurvivesAStop(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1))
		positions := projector.NewPositions(db)
		var r *projector.Runner
		p := &projectortest.Recorder{ID: "p", OnFlush: func() (uint64, error) { return 1, r.Rewind() }}
		r = projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		projectortest.Start(t, r)
		time.Sleep(3 * time.Second)
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if saved, err := positions.Load("p"); err != nil || saved != 0 {
			t.Errorf("saved %d (%v)", saved, err)
		}
	})
}
