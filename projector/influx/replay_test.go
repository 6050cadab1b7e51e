package influx

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/projectortest"
)

// stage is a journal, a store, both live projections, and replays over them, in a synctest bubble.
type stage struct {
	tb         testing.TB
	journal    *projectortest.Memory
	store      *fakeStore
	db         *bbolt.DB
	rejects    *projector.Rejects
	aggregates *Aggregates
	runners    []*projector.Runner
	jobs       *past.Queue
	retention  time.Duration
	began      time.Time
}

func newStage(tb testing.TB) *stage {
	s := &stage{tb: tb, journal: projectortest.NewMemory(), store: newFakeStore(), db: openDB(tb), began: time.Now().Add(-48 * time.Hour).Truncate(time.Hour)}
	s.rejects = projector.NewRejects(s.db)
	s.start()
	tb.Cleanup(func() { s.stop() })
	return s
}

func (s *stage) start() {
	s.tb.Helper()
	ro := RawOptions{Store: s.store, Rejects: s.rejects, Retention: s.retention}
	raw := must(NewRaw(ro))
	s.aggregates = must(NewAggregates(AggregatesOptions{Store: s.store, Journal: s.journal, DB: s.db, Interval: time.Minute, Rejects: s.rejects,
		Retention: s.retention}))
	s.runners = nil
	for _, p := range []projector.Projection{raw, s.aggregates} {
		r := must(projector.NewRunner(projector.RunnerOptions{Projection: p, Journal: s.journal, Positions: projector.NewPositions(s.db), Rejects: s.rejects}))
		if err := r.Start(context.Background()); err != nil {
			s.tb.Fatal(err)
		}
		s.runners = append(s.runners, r)
	}
	s.jobs = must(past.New(past.Options{DB: s.db, Journal: s.journal, View: must(NewRawPast(ro, s.journal, s.db)),
		Targets: []past.Target{NewAggregatesPast(s.aggregates)}}))
	if err := s.jobs.Start(context.Background()); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *stage) stop() {
	s.tb.Helper()
	if err := s.jobs.Stop(context.Background()); err != nil {
		s.tb.Error(err)
	}
	for _, r := range s.runners {
		r.Stop()
	}
}

// live appends events, and waits until they are written and their windows are closed.
func (s *stage) live(events ...*codec.Event) {
	s.tb.Helper()
	s.journal.Append(events...)
	time.Sleep(5 * time.Minute)
	for _, r := range s.runners {
		if st := r.Status(); st.Applied != s.journal.Last() || st.LastError != "" {
			s.tb.Fatalf("%+v", st)
		}
	}
}

// minutes returns n events of a relay, one every ten seconds, the first at offset from began.
func (s *stage) minutes(relay string, offset time.Duration, n int) []*codec.Event {
	var events []*codec.Event
	for i := range n {
		events = append(events, event(relay, s.began.Add(offset+time.Duration(i)*10*time.Second), []string{"service:x"},
			stat("cpu", float64(i)/3), stat("cpu", float64(i)/7), stat("ram", 1e9/float64(i+1))))
	}
	return events
}

func (s *stage) create(from, to time.Duration, projections ...string) past.Job {
	s.tb.Helper()
	return must(s.jobs.Create(past.Request{Projections: projections, From: s.began.Add(from), To: s.began.Add(to)}))
}

func (s *stage) await(id string, ok func(past.Job) bool) past.Job {
	s.tb.Helper()
	for range 200_000 {
		if job := must(s.jobs.Get(id)); ok(job) {
			return job
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.tb.Fatalf("waiting for %+v", must(s.jobs.Get(id)))
	return past.Job{}
}

func (s *stage) replay(from, to time.Duration, projections ...string) past.Job {
	s.tb.Helper()
	return s.await(s.create(from, to, projections...).ID, func(j past.Job) bool { return j.State == past.StateDone })
}

func (s *stage) cells() map[cell]float64 {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return maps.Clone(s.store.cells)
}

// drop deletes the stored points and rows of [from, to).
func (s *stage) drop(from, to time.Duration) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	maps.DeleteFunc(s.store.cells, func(c cell, _ float64) bool {
		return c.time >= s.began.Add(from).UnixNano() && c.time < s.began.Add(to).UnixNano()
	})
}

func (s *stage) same(was map[cell]float64) {
	s.tb.Helper()
	is := s.cells()
	if maps.Equal(is, was) {
		return
	}
	s.tb.Errorf("%d fields are stored, there were %d", len(is), len(was))
	for c, v := range was {
		if got, ok := is[c]; !ok || got != v {
			s.tb.Errorf("%+v is %v (%t), was %v", c, got, ok, v)
			return
		}
	}
}

// change sets how the store behaves.
func (s *stage) change(f func(*fakeStore)) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	f(s.store)
}

func inBubble(t *testing.T, f func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newStage(t)) })
}

func TestReplayBringsBackWhatWasDeletedAndTwiceChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(append(s.minutes("web1", 0, 360), s.minutes("web2", 0, 360)...)...)
		s.live(s.minutes("web1", 10*time.Minute, 6)...) // late, and not at the beginning of a second
		was := s.cells()
		s.drop(20*time.Minute, 40*time.Minute)
		if len(s.cells()) == len(was) {
			t.Fatal("nothing was deleted")
		}
		for range 2 {
			job := s.replay(20*time.Minute, 40*time.Minute, "all")
			s.same(was)
			raw, aggregates := job.Parts[0], job.Parts[1]
			if raw.Events != 240 || raw.Readings != 720 || raw.Points != 720 || raw.EventsTotal != 240 || raw.Expired+raw.Refused+raw.Lost != 0 || len(raw.Notes) != 0 {
				t.Errorf("raw: %+v", raw)
			}
			if aggregates.Events != 240 || aggregates.Readings != 720 || aggregates.Points != 40 || aggregates.EventsTotal != 240 ||
				aggregates.Expired+aggregates.Refused+aggregates.Lost != 0 || len(aggregates.Notes) != 0 {
				t.Errorf("aggregates: %+v", aggregates)
			}
		}
		if n := s.journal.OpenReaders(); n != len(s.runners) {
			t.Errorf("%d readers are open", n)
		}
		if n := len(s.aggregates.allWindows()); n > keepClosed+1 {
			t.Errorf("%d windows are in memory", n)
		}
	})
}

// From is included and To is not, to the nanosecond. A window that overlaps the range is written
// completely.
func TestReplayWritesTheRangeOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 60)...)
		s.drop(-time.Hour, time.Hour)
		job := s.replay(90*time.Second, 150*time.Second, "all") // events 9 to 14, windows 1 and 2
		if job.Parts[0].Events != 6 || job.Parts[1].Events != 12 {
			t.Errorf("%+v", job.Parts)
		}
		times := make(map[Policy]map[int64]bool)
		for c := range s.cells() {
			if times[c.policy] == nil {
				times[c.policy] = make(map[int64]bool)
			}
			times[c.policy][c.time/1e9-s.began.Unix()] = true
		}
		if got := fmt.Sprint(times); got != "map[one_day:map[90:true 100:true 110:true 120:true 130:true 140:true] one_week:map[60:true 120:true]]" {
			t.Errorf("written: %s", got)
		}
	})
}

func TestReplayOfADryRunChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 360)...)
		s.drop(0, time.Hour)
		writes := s.store.writes
		q := past.Request{Projections: []string{"all"}, From: s.began, To: s.began.Add(time.Hour), DryRun: true}
		id := must(s.jobs.Create(q)).ID
		dry := s.await(id, func(j past.Job) bool { return j.State == past.StateDone })
		if s.store.writes != writes || len(s.cells()) != 0 {
			t.Errorf("%d writes", s.store.writes-writes)
		}
		wet := s.replay(0, time.Hour, "all")
		if fmt.Sprint(dry.Parts) != fmt.Sprint(wet.Parts) || wet.Parts[0].Points != 1080 || wet.Parts[1].Points != 60 {
			t.Errorf("a dry run says  %+v\nthe replay did %+v", dry.Parts, wet.Parts)
		}
	})
}

// Restarts happen in the middle of a replay, between its steps and during them. Work that was done
// is not counted twice, and the result is complete.
func TestReplayGoesOnAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 6000)...)
		was := s.cells()
		s.drop(0, 24*time.Hour)
		writes := 0
		s.change(func(f *fakeStore) {
			f.before = func(points []Point) (int, error) { // some writes succeed, then none
				writes++
				if most := map[bool]int{false: 3, true: 60}[points[0].Series.Measurement() == "aggregate"]; writes > most {
					return len(points) / 2, errDown
				}
				return 0, nil
			}
		})
		id, restarts := s.create(0, 24*time.Hour, "all").ID, 0
		for {
			job := s.await(id, func(j past.Job) bool { return j.LastError != "" || j.State == past.StateDone })
			if job.State == past.StateDone {
				break
			}
			s.stop()
			s.change(func(*fakeStore) { writes = 0 })
			s.start()
			if restarts++; restarts > 100 {
				t.Fatalf("%+v", job)
			}
		}
		s.same(was)
		job := must(s.jobs.Get(id))
		for _, p := range job.Parts {
			if p.Events != 6000 || p.Readings != 18000 {
				t.Errorf("%+v", p)
			}
		}
		if job.Parts[0].Points != 18000 || job.Parts[1].Points != 1000 || restarts < 10 {
			t.Errorf("%+v after %d restarts", job.Parts, restarts)
		}
	})
}

func (s *stage) writes() int {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return s.store.writes
}

func TestReplayCanceled(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 60)...)
		// A replay that cannot go on is canceled: it writes nothing more, and the next replay runs.
		s.change(func(f *fakeStore) { f.before = fail(errDown) })
		for _, projection := range []string{"raw", "aggregates"} {
			id := s.create(0, time.Hour, projection).ID
			if job := s.await(id, func(j past.Job) bool { return j.LastError != "" }); !strings.Contains(job.LastError, "overloaded") {
				t.Errorf("%s: %+v", projection, job)
			}
			if job := must(s.jobs.Cancel(id)); job.State != past.StateCanceled || job.Parts[0].State != past.StateCanceled {
				t.Errorf("%+v", job)
			}
			time.Sleep(time.Second)
			writes := s.writes()
			s.change(func(f *fakeStore) { f.before = nil })
			time.Sleep(time.Minute)
			if projection == "raw" && s.writes() != writes {
				t.Errorf("%d writes after the cancel", s.writes()-writes)
			}
			s.replay(0, time.Hour, projection)
			s.change(func(f *fakeStore) { f.before = fail(errDown) })
		}
		s.change(func(f *fakeStore) { f.before = nil })
	})
}

// Half of all writes fail, and some of these after storing a part of the points.
func TestReplayIntoAFailingStore(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 6000)...)
		was := s.cells()
		s.drop(0, 24*time.Hour)
		n := 0
		s.change(func(f *fakeStore) {
			f.before = func(points []Point) (int, error) {
				if n++; n%2 == 0 {
					return len(points) / 2, errDown
				}
				return 0, nil
			}
		})
		job := s.replay(0, 24*time.Hour, "all")
		s.same(was)
		for _, p := range job.Parts {
			if p.Events != 6000 || p.Readings != 18000 {
				t.Errorf("%+v", p)
			}
		}
		if job.Parts[0].Points != 18000 || job.Parts[1].Points != 1000 || job.LastError != "" {
			t.Errorf("%+v", job)
		}
		for _, r := range s.runners {
			if st := r.Status(); st.Failures != 0 {
				t.Errorf("the replay's failures are the live projection's: %+v", st)
			}
		}
	})
}

func TestLateEventsDuringAReplay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 600)...)
		s.drop(0, 24*time.Hour)
		id := s.create(0, 24*time.Hour, "all").ID
		for i := 0; must(s.jobs.Get(id)).State != past.StateDone; i++ {
			s.journal.Append(event("web1", s.began.Add(time.Duration(i*97%6000)*time.Second), []string{"service:x"}, stat("cpu", float64(i))))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		rows := s.cells()
		maps.DeleteFunc(rows, func(c cell, _ float64) bool { return c.policy != PolicyAggregate })
		compare(t, rows, recount(s.journal, time.Minute))
	})
}

func TestReplayOfExpiredReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.live(s.minutes("web1", 0, 360)...)
		s.stop()
		s.retention = time.Since(s.began.Add(30*time.Minute + 5*time.Second)) // half an hour and an event expire
		s.start()
		s.drop(0, time.Hour)
		job := s.replay(0, time.Hour, "all")
		for i, expired := range []uint64{181 * 3, 180 * 3} {
			p := job.Parts[i]
			if p.Events != 360 || p.Readings != 1080 || p.Expired != expired || p.Refused+p.Lost != 0 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "expired") {
				t.Errorf("%+v", p)
			}
			if written := p.Readings - p.Expired; i == 0 && p.Points != written || i == 1 && p.Points != written/18 {
				t.Errorf("%+v", p)
			}
		}
	})
}
