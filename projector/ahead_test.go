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

// While a batch is applied, the runner reads the next batch and no more. It applies the batch that
// was read ahead in turn and reports a gap in it. Meanwhile the batch that is being applied does
// not change.
func TestRunnerReadsAhead(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 100 {
			m.Append(projectortest.Event("web1", int64(i+1)))
		}
		m.Lose(31, 35)
		var reads []int
		p := &projectortest.Recorder{ID: "p"}
		p.OnApply = func(records []journal.Record) error {
			synctest.Wait() // wait until the reader has nothing to do
			reads = append(reads, m.Reads())
			for _, r := range records {
				if r.Event.Time != int64(r.Seq) {
					t.Errorf("record %d is spoilt: %+v", r.Seq, r.Event)
				}
			}
			return nil
		}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, BatchRecords: 10, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		time.Sleep(time.Minute)
		r.Stop()
		if want := slices.Concat(projectortest.Numbers(1, 30), projectortest.Numbers(36, 100)); !slices.Equal(p.Applied(), want) {
			t.Errorf("applied %v", p.Applied())
		}
		if s := r.Status(); s.Lost != 5 {
			t.Errorf("%d records are told to be lost, want 5", s.Lost)
		}
		if reads[0] != 2 || reads[1] != 3 {
			t.Errorf("there had been %v reads when batches were applied, want one more each time", reads)
		}
	})
}

// When a runner is stopped, or gives up its reader, no goroutine is left that reads.
func TestRunnerStopsReadingAhead(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 100 {
			m.Append(projectortest.Event("web1", int64(i+1)))
		}
		p := &projectortest.Recorder{ID: "p"}
		applying, goOn := make(chan struct{}, 10), make(chan struct{})
		p.OnApply = func([]journal.Record) error {
			applying <- struct{}{}
			<-goOn
			return nil
		}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, BatchRecords: 10, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		<-applying
		close(goOn)
		r.Stop()
		if n := m.OpenReaders(); n != 0 {
			t.Errorf("%d readers are open", n)
		}
	})
}
