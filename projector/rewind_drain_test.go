package projector_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// A drain begins while the last batch finds that the sink lost everything. The drain does not end
// before all records were applied again, because "drained" means that the sink has every record.
func TestRunnerRewindWithTheLastBatchOfADrain(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 3 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		var r *projector.Runner
		draining := make(chan struct{})
		p := &projectortest.Recorder{ID: "p"}
		p.OnApply = func(records []journal.Record) error {
			if records[len(records)-1].Seq < 4 || p.OnApply == nil {
				return nil
			}
			p.OnApply = nil
			<-draining
			return r.Rewind()
		}
		r = projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		time.Sleep(5 * time.Second)
		m.Append(projectortest.Event("a", 3))
		synctest.Wait()
		drained := make(chan error)
		go func() { drained <- r.Drain(t.Context()) }()
		synctest.Wait()
		close(draining)
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Applied(), []uint64{1, 2, 3, 4, 1, 2, 3, 4}) {
			t.Errorf("applied %v, want everything twice", p.Applied())
		}
		if s := r.Status(); s.State != projector.StateDrained || s.Applied != 4 || s.Lag != 0 {
			t.Errorf("status %+v", s)
		}
	})
}
