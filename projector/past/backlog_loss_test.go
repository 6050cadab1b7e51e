package past_test

import (
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector/projectortest"
)

// SecondsToLoss covers the records that the backlog has not filled in, even when the runner itself
// is live. The log warns once a minute.
func TestSecondsToLossOfTheBacklog(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: 2 * time.Hour}
		for i := range 100 { // a minute apart
			m.Append(projectortest.Event("a", time.Now().Add(time.Duration(i-100)*time.Minute).UnixNano()))
		}
		var down atomic.Bool
		down.Store(true)
		p := newPair(t, db, m, func(p *pair) {
			p.behind.OnApply = func([]journal.Record) error {
				if down.Load() {
					return errors.New("down")
				}
				return nil
			}
		})
		p.start(t)
		synctest.Wait() // 1 to 5 are applied; the other 95 records are the backlog's
		for range 5*60 + 10 {
			projectortest.Fill(m.Memory, 1)
			time.Sleep(time.Second)
		}
		// Record 6 was 95 minutes old at the start.
		s := p.runner.Status()
		if s.Lag > 1 || s.LagSeconds > 1 || s.Backlog != 95 || !projectortest.About(s.SecondsToLoss, 25*60-310) {
			t.Errorf("status %+v, %v s to loss", s, *s.SecondsToLoss)
		}
		if n := p.log.Count("the journal will drop records"); n != 6 {
			t.Errorf("%d warnings in 310 s", n)
		}
		// The same after a restart, when the time of the record has to be looked up.
		p.stop()
		p = newPair(t, db, m, func(q *pair) { q.behind.OnApply = p.behind.OnApply })
		p.start(t)
		time.Sleep(10 * time.Second)
		if s := p.runner.Status(); !projectortest.About(s.SecondsToLoss, 25*60-320) {
			t.Errorf("after a restart: status %+v", s)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		if s := p.runner.Status(); s.SecondsToLoss != nil || s.Backlog != 0 {
			t.Errorf("status %+v", s)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_seconds_to_loss"); !math.IsInf(n, 1) {
			t.Errorf("the gauge says %v", n)
		}
		p.stop()
	})
}
