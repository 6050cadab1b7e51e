package influx

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/projector/past"
)

// Records that the journal does not have any more are counted. Windows that have lost a part of
// their events stay as they are.
func TestReplayOverAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 360)...)
		was := s.cells()
		s.journal.Trim(61)       // the first ten minutes
		s.journal.Lose(201, 203) // of minute 33
		job := s.replay(0, time.Hour, "all")
		s.same(was)
		raw, aggregates := job.Parts[0], job.Parts[1]
		if raw.Events != 297 || raw.Lost != 63 || len(raw.Notes) != 2 || !strings.Contains(raw.Notes[0], "the journal begins with record 61") ||
			raw.Notes[1] != "the journal has nothing from 1999-12-30T00:00:00Z to 1999-12-30T00:10:00Z" {
			t.Errorf("raw: %+v", raw)
		}
		if aggregates.Events != 294 || aggregates.Lost != 63 || len(aggregates.Notes) != 2 || !strings.Contains(aggregates.Notes[1], "00:33:00Z") {
			t.Errorf("aggregates: %+v", aggregates)
		}
		// The journal drops all of its records.
		s.journal.Trim(361)
		job = s.replay(0, time.Hour, "all")
		s.same(was)
		if raw, aggregates := job.Parts[0], job.Parts[1]; raw.Lost != 360 || raw.Events != 0 || aggregates.Lost != 360-6*keepClosed || aggregates.Events != 6*keepClosed {
			t.Errorf("raw: %+v\naggregates: %+v", raw, aggregates)
		}
	})
}

// The index of windows knows the records of events that came from a wrong clock.
func TestReplayFindsEventsOfAWrongClock(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 2*time.Hour, 60)...)
		s.live(s.minutes("web2", 0, 30)...) // two hours back
		was := s.cells()
		s.drop(0, 10*time.Minute)
		if job := s.replay(0, 10*time.Minute, "all"); job.Parts[0].Events != 30 || job.Parts[1].Events != 30 {
			t.Errorf("%+v", job)
		}
		s.same(was)
	})
}

func TestReplayOfNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		for range 2 {
			job := s.replay(-time.Hour, 0, "all")
			for _, p := range job.Parts {
				if p.Events+p.EventsTotal+p.Points+p.Lost != 0 {
					t.Errorf("%+v", p)
				}
			}
			s.live(s.minutes("web1", 0, 6)...)
		}
	})
}

// The journal may be unreachable at any moment of a replay.
func TestReplayWhileTheJournalIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 60)...)
		was := s.cells()
		s.drop(0, time.Hour)
		away := errors.New("the journal is away")
		s.journal.Fail(away)
		id := s.create(0, time.Hour, "all").ID
		if job := s.await(id, func(j past.Job) bool { return j.LastError != "" }); !strings.Contains(job.LastError, away.Error()) {
			t.Errorf("%+v", job)
		}
		failed := false // the journal fails again, after the first window
		s.change(func(f *fakeStore) {
			f.before = func(points []Point) (int, error) {
				if !failed && points[0].Series.Measurement() == "aggregate" {
					failed = true
					s.journal.Fail(away)
				}
				return 0, nil
			}
		})
		s.journal.Fail(nil)
		s.await(id, func(j past.Job) bool { return j.LastError != "" && j.Parts[0].State == past.StateDone })
		s.journal.Fail(nil)
		s.await(id, func(j past.Job) bool { return j.State == past.StateDone })
		s.same(was)
	})
}

// A journal loses its last records in the middle of a replay. The replay ends, and does not wait
// for records that will never come.
func TestReplayOfAJournalThatLostItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 6000)...)
		s.change(func(f *fakeStore) { f.before = fail(errDown) })
		id := s.create(0, 24*time.Hour, "raw").ID
		s.await(id, func(j past.Job) bool { return j.LastError != "" })
		synctest.Wait() // the replay has read events that it could not write, and will read them again
		s.journal.Cut(3000)
		s.journal.Append(s.minutes("web1", 47*time.Hour, 6)...) // the numbers are used again
		s.change(func(f *fakeStore) { f.before = nil })
		job := s.await(id, func(j past.Job) bool { return j.State == past.StateDone })
		if p := job.Parts[0]; p.Events != 3000 || p.Lost < 2990 || p.Lost > 3000 {
			t.Errorf("%+v", p)
		}
	})
}
