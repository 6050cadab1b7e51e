package projector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// A range is applied as far as the journal has it, flushed, and nothing else is touched.
func TestRunnerBetween(t *testing.T) {
	for _, tt := range []struct {
		from, to uint64
		journal  func(m *projectortest.Memory)
		want     []uint64
		lost     uint64
	}{
		{from: 5, to: 30, want: numbers(5, 30)},
		{from: 0, to: 1, want: numbers(1, 1)},
		{from: 40, to: 1000, want: numbers(40, 50)},
		{from: 7, to: 6},
		{from: 51, to: 60},
		{from: 1, to: 25, journal: func(m *projectortest.Memory) { m.Trim(20) }, want: numbers(20, 25), lost: 19},
		{from: 3, to: 25, journal: func(m *projectortest.Memory) { m.Trim(20) }, want: numbers(20, 25), lost: 17},
		{from: 1, to: 19, journal: func(m *projectortest.Memory) { m.Trim(20) }, lost: 19},
		{from: 1, to: 18, journal: func(m *projectortest.Memory) { m.Trim(20) }, lost: 18},
		{from: 11, to: 25, journal: func(m *projectortest.Memory) { m.Lose(15, 30) }, want: numbers(11, 14), lost: 11},
		{from: 11, to: 50, journal: func(m *projectortest.Memory) { m.Lose(45, 50) }, want: numbers(11, 44), lost: 6},
	} {
		t.Run(fmt.Sprintf("%d-%d-%d", tt.from, tt.to, tt.lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := projectortest.NewMemory()
				for i := range 50 {
					m.Append(event("a", int64(i)))
				}
				if tt.journal != nil {
					tt.journal(m)
				}
				flushed := 0
				p := &recorder{name: "p", flush: func() (uint64, error) { flushed++; return 0, nil }}
				r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, BatchRecords: 10, Start: projector.Between(tt.from, tt.to)})
				start(t, r)
				<-r.Done()
				if err := r.Err(); err != nil {
					t.Fatal(err)
				}
				if got := p.applied(); !slices.Equal(got, tt.want) {
					t.Errorf("applied %v, want %v", got, tt.want)
				}
				if s := r.Status(); s.State != projector.StateDrained || s.Lost != tt.lost || s.Lag != 0 || len(s.Gaps) > 1 {
					t.Errorf("status %+v, want %d lost", s, tt.lost)
				}
				if flushed != 1 || len(p.spans) != 1 || p.spans[0].Position != max(tt.from, 1)-1 || m.OpenReaders() != 0 {
					t.Errorf("flushed %d times, began at %+v, %d readers open", flushed, p.spans, m.OpenReaders())
				}
			})
		})
	}
}

// A range goes through the same failures as the journal's end does.
func TestRunnerBetweenThroughFailures(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 100 {
			m.Append(event("a", int64(i)))
		}
		var down atomic.Bool
		down.Store(true)
		p := &recorder{name: "p", apply: func(records []journal.Record) error {
			if down.Load() {
				return errors.New("down")
			}
			for i := range records {
				if records[i].Seq == 37 {
					return &projector.RejectError{Reason: "no"}
				}
			}
			return nil
		}}
		rejects := projector.NewRejects(db)
		reg := prometheus.NewRegistry()
		live := newRunner(t, projector.RunnerOptions{Projection: &recorder{name: "p"}, Journal: m, Start: projector.FromEnd(), Registerer: reg})
		start(t, live)
		time.Sleep(2 * time.Second)
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, BatchRecords: 10, Rejects: rejects, Start: projector.Between(11, 80), Registerer: reg})
		start(t, r)
		time.Sleep(time.Minute)
		if s := r.Status(); s.State != projector.StateFailing || s.Lag != 70 || s.LastError != "down" {
			t.Errorf("status while the sink is down: %+v", s)
		}
		if err := r.Err(); err != nil {
			t.Errorf("an error while it runs: %v", err)
		}
		down.Store(false)
		time.Sleep(40 * time.Millisecond)
		m.Fail(errors.New("the journal restarts"))
		time.Sleep(time.Minute)
		m.Fail(nil)
		<-r.Done()
		if got, want := p.applied(), append(numbers(11, 36), numbers(38, 80)...); !slices.Equal(got, want) {
			t.Errorf("applied %v", got)
		}
		if s := r.Status(); s.State != projector.StateDrained || s.Rejected != 1 || r.Err() != nil {
			t.Errorf("status %+v, %v", s, r.Err())
		}
		if list, err := rejects.List(); err != nil || len(list) != 1 || list[0].Seq != 37 {
			t.Errorf("listed %v, %v", list, err)
		}
		live.Stop()
		// Where the projection is, is what its own runner says.
		if n := metric(t, reg, "pulse_projector_position"); n != 100 {
			t.Errorf("the gauge says %v", n)
		}
		if n := metric(t, reg, "pulse_projector_records_total"); n != 70 {
			t.Errorf("%v records counted", n) // a record that is refused is one too
		}
	})
}

func TestRunnerBetweenStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1), event("a", 2))
		down := func([]journal.Record) error { return errors.New("down") }
		r := newRunner(t, projector.RunnerOptions{Projection: &recorder{name: "p", apply: down}, Journal: m, Start: projector.Between(1, 2)})
		start(t, r)
		time.Sleep(time.Minute)
		r.Stop()
		<-r.Done()
		if err := r.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("a range that was stopped: %v", err)
		}
		m.Fail(errors.New("broken"))
		r = newRunner(t, projector.RunnerOptions{Projection: &recorder{name: "p"}, Journal: m, Start: projector.Between(1, 2)})
		if err := r.Start(t.Context()); err == nil {
			t.Fatal("started")
		}
		<-r.Done()
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("a range that did not start: %v", err)
		}
	})
}

// A journal that lost its end cuts the range off: the numbers behind it are other records' now.
func TestRunnerBetweenWhenTheJournalLosesItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 100 {
			m.Append(event("a", int64(i)))
		}
		p := &recorder{name: "p"}
		p.apply = func(records []journal.Record) error {
			if records[0].Seq == 21 {
				synctest.Wait() // 31 to 40 are read ahead
				m.Cut(30)
			}
			return nil
		}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, BatchRecords: 10, Start: projector.Between(1, 80)})
		start(t, r)
		<-r.Done()
		if got := p.applied(); !slices.Equal(got, numbers(1, 40)) || r.Err() != nil || r.Status().Lost != 0 {
			t.Errorf("applied %v, %v, %+v", got, r.Err(), r.Status())
		}
	})
}
