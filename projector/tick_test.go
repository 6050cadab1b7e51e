package projector_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// Records are still read when ticks take longer than the time between them (a slow disk, a busy
// InfluxDB).
func TestRunnerSlowTicksDoNotKeepRecordsFromBeingRead(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		p := &projectortest.Recorder{ID: "slow", OnTick: func(time.Time) (uint64, error) {
			time.Sleep(1100 * time.Millisecond)
			return 0, nil
		}}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		time.Sleep(3 * time.Second) // slow ticks only
		for i := range 10 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		time.Sleep(5 * time.Second)
		if s := r.Status(); s.Applied != 10 {
			t.Errorf("after five seconds: %+v", s)
		}
		r.Stop()
	})
}
