package projector_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// persister counts how often it was asked to make durable what it was given.
type persister struct {
	projectortest.Recorder
	times atomic.Int32
}

func (p *persister) Persist(context.Context) error { p.times.Add(1); return nil }

// A position is saved every SaveEvery, sooner after SaveReadings, and at the stop. Each time the sink
// is made durable first.
func TestPositionIsSavedByTimeAndByReadings(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m, positions := projectortest.NewMemory(), projector.NewPositions(db)
		p := &persister{Recorder: projectortest.Recorder{ID: "p"}}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions,
			SaveEvery: 5 * time.Minute, SaveReadings: 100})
		projectortest.Start(t, r)
		saved := func(when string, times int32, position uint64) {
			t.Helper()
			synctest.Wait()
			if got, err := positions.Load("p"); err != nil || got != position || p.times.Load() != times {
				t.Fatalf("%s: position %d saved, the sink made durable %d times, want %d and %d (%v)", when, got, p.times.Load(), position, times, err)
			}
		}
		projectortest.Fill(m, 99)
		time.Sleep(4 * time.Minute)
		saved("before it is time", 0, 0)
		projectortest.Fill(m, 1)
		saved("after 100 readings", 1, 100)
		projectortest.Fill(m, 1)
		time.Sleep(4 * time.Minute)
		saved("four minutes later", 1, 100)
		time.Sleep(2 * time.Minute)
		saved("six minutes later", 2, 101)
		projectortest.Fill(m, 1)
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		saved("at the stop", 3, 102)
	})
}

// A journal may hold less than what comes until it is time to save the position, by its size or by
// the age of its records. The position is saved before the journal drops what a crash would have
// applied again, and hardly more often than that.
func TestPositionIsSavedBeforeTheJournalDropsWhatIsAfterIt(t *testing.T) {
	const holds, eachSecond, seconds = 1000, 50, 200
	for name, limit := range map[string]func(*projectortest.Memory){
		"by size": func(m *projectortest.Memory) { m.Limit(holds, 0) },
		"by age":  func(m *projectortest.Memory) { m.Limit(0, holds/eachSecond*time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			db := projectortest.OpenDB(t)
			synctest.Test(t, func(t *testing.T) {
				m, positions := projectortest.NewMemory(), projector.NewPositions(db)
				limit(m)
				p := &persister{Recorder: projectortest.Recorder{ID: "p"}}
				r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, SaveEvery: time.Hour})
				projectortest.Start(t, r)
				defer r.Stop()
				for range seconds {
					projectortest.Fill(m, eachSecond)
					last := m.Last()
					if last > holds {
						m.Trim(last - holds + 1)
					}
					time.Sleep(time.Second)
					synctest.Wait()
					if saved, err := positions.Load("p"); err != nil || last > holds && saved < last-holds {
						t.Fatalf("the journal begins with %d, the saved position is %d (%v)", last-holds+1, saved, err)
					}
				}
				if n := p.times.Load(); n > eachSecond*seconds/(holds/4)+1 {
					t.Errorf("the sink was made durable %d times for %d records", n, eachSecond*seconds)
				}
			})
		})
	}
}
