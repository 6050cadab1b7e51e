package influx

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
)

// listed returns the rejects of a projection, as sequence, relay and stat.
func (s *stage) listed(projection string) []string {
	var list []string
	for _, rej := range must(s.rejects.List()) {
		if rej.Projection == projection {
			list = append(list, fmt.Sprint(rej.Seq, " ", rej.Relay, " ", rej.Stat))
		}
	}
	slices.Sort(list)
	return list
}

// refuse sets which points the store refuses, and why.
func (s *stage) refuse(f func(p *Point) string) {
	s.change(func(store *fakeStore) { store.refuse = f })
}

func host(p *Point) string {
	for _, tag := range p.Series.Tags() {
		if tag.Key == "host" {
			return tag.Value
		}
	}
	return ""
}

// The cause of some refusals is gone, and the cause of others is not.
func TestReplayOfRejects(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.refuse(func(p *Point) string {
			if host(p) == "web1" || p.Series.Measurement() == "ram" {
				return "field type conflict"
			}
			return ""
		})
		s.live(append(s.minutes("web1", 0, 12), s.minutes("web2", 0, 12)...)...)
		time.Sleep(refusedFor)
		s.live(s.minutes("web1", 2*time.Hour, 6)...)
		before := s.listed("influx_raw")
		rows := s.listed("influx_aggregates")
		if len(before) < 3 || len(rows) != 3 {
			t.Fatalf("listed: %v, %v", before, rows)
		}
		s.refuse(func(p *Point) string {
			if p.Series.Measurement() == "ram" && host(p) == "web2" {
				return "field type conflict"
			}
			return ""
		})
		for range 2 {
			// Replay only the first two minutes: rejects of later readings stay.
			job := s.replay(0, 2*time.Minute, "all")
			raw, aggregates := job.Parts[0], job.Parts[1]
			if raw.Readings != 72 || raw.Refused != 12 || raw.Points != 60 || aggregates.Points != 4 || aggregates.Refused != 0 {
				t.Errorf("%+v\n%+v", raw, aggregates)
			}
			var left, leftRows, still int
			for _, rej := range must(s.rejects.List()) {
				switch {
				case rej.Relay == "web2" && rej.Stat == "ram" && rej.Projection == "influx_raw":
					still++
				case rej.Projection == "influx_raw" && rej.Seq > 24:
					left++
				case rej.Projection == "influx_aggregates" && rej.Window.After(s.began.Add(time.Hour)):
					leftRows++
				default:
					t.Errorf("listed: %+v", rej)
				}
			}
			if left < 2 || leftRows != 1 || still == 0 {
				t.Errorf("%d and %d of another range, %d that are refused still: %+v", left, leftRows, still, must(s.rejects.List()))
			}
			// Each reading that was listed and is still refused is still listed.
			now := s.listed("influx_raw")
			for _, line := range before {
				if strings.HasSuffix(line, "web2 ram") && !slices.Contains(now, line) {
					t.Errorf("%q is not listed any more, and refused still: %v", line, now)
				}
			}
		}
		s.refuse(nil)
		s.replay(0, 24*time.Hour, "all")
		if list := must(s.rejects.List()); len(list) != 0 {
			t.Errorf("listed: %+v", list)
		}
		rowsOnly := s.cells()
		for c := range rowsOnly {
			if c.policy != PolicyAggregate {
				delete(rowsOnly, c)
			}
		}
		compare(t, rowsOnly, recount(s.journal, time.Minute))
		if n := len(s.cells()) - len(rowsOnly); n != 30*3 {
			t.Errorf("%d raw points, want 90", n)
		}
	})
}

// A refused series is left alone for ten minutes, but only in the same hour of event times: a
// replay offers it again in each hour. A reject of the refused hour stays listed, although its
// reading is not offered.
func TestReplayOffersARefusedSeriesAgainInEachHour(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		bad := s.began.Add(time.Hour).UnixNano() // the hour before it is refused
		s.refuse(func(p *Point) string {
			if p.Time < bad && p.Series.Measurement() == "cpu" {
				return "field type conflict"
			}
			return ""
		})
		var events []*codec.Event
		for i := range 1500 { // 1,200 in the bad hour: more than one batch
			events = append(events, event("web1", s.began.Add(time.Duration(i)*3*time.Second), nil, stat("cpu", float64(i))))
		}
		s.live(events...)
		if err := s.rejects.Add(projector.Reject{Projection: "influx_raw", Seq: 1100, Relay: "web1", Stat: "cpu", Reason: "field type conflict"}); err != nil {
			t.Fatal(err)
		}
		job := s.replay(0, 2*time.Hour, "raw")
		if p := job.Parts[0]; p.Refused != 1200 || p.Points != 300 {
			t.Errorf("%+v", p)
		}
		for i := 1200; i < 1500; i++ {
			s.store.want(t, PolicyRaw, "cpu,host=web1", s.began.Add(time.Duration(i)*3*time.Second).UnixNano(), "cpu", float64(i))
		}
		if list := s.listed("influx_raw"); !slices.Contains(list, "1100 web1 cpu") {
			t.Errorf("listed: %q", list)
		}
	})
}

// A reject that stands for readings of several records is removed when all of them were replayed.
func TestReplayOfARejectOfManyRecords(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 60)...)
		if err := s.rejects.Add(projector.Reject{Projection: "influx_raw", Seq: 10, To: 40, Count: 7, Reason: "some"},
			projector.Reject{Projection: "influx_raw", Seq: 20, Reason: "cannot be read"}); err != nil {
			t.Fatal(err)
		}
		s.replay(0, 5*time.Minute, "raw") // records 1 to 30
		if list := s.listed("influx_raw"); fmt.Sprint(list) != "[10  ]" {
			t.Errorf("listed: %q", list)
		}
		s.replay(0, 10*time.Minute, "raw")
		if list := s.listed("influx_raw"); len(list) != 0 {
			t.Errorf("listed: %q", list)
		}
	})
}

// Records that cannot be read stay listed. A dry run removes nothing from the list.
func TestReplayLeavesWhatItDidNotOffer(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.journal.AppendBad(codec.ErrDecode)
		s.live(s.minutes("web1", 0, 12)...)
		if err := s.rejects.Add(projector.Reject{Projection: "influx_raw", Seq: 5, Relay: "web1", Stat: "cpu", Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		was := must(s.rejects.List())
		q := past.Request{Projections: []string{"all"}, From: s.began, To: s.began.Add(time.Hour), DryRun: true}
		s.await(must(s.jobs.Create(q)).ID, func(j past.Job) bool { return j.State == past.StateDone })
		if fmt.Sprint(must(s.rejects.List())) != fmt.Sprint(was) {
			t.Errorf("a dry run has changed the list to %+v", must(s.rejects.List()))
		}
		s.replay(0, time.Hour, "all")
		if list := s.listed("influx_raw"); fmt.Sprint(list) != "[1  ]" {
			t.Errorf("listed: %q", list)
		}
	})
}

// A replay of aggregates does not need the live projection, which may be stopped, failing, or
// reading the journal again.
func TestReplayWithoutTheLiveProjection(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.live(s.minutes("web1", 0, 60)...)
		was := s.cells()
		s.drop(0, time.Hour)
		s.runners[1].Stop()
		s.replay(0, time.Hour, "aggregates")
		s.stop()
		if err := projector.NewPositions(s.db).Clear(); err != nil {
			t.Fatal(err)
		}
		s.drop(0, time.Hour)
		s.start()
		s.replay(0, time.Hour, "all")
		s.same(was)
	})
}

// A window of which the fold has only a part after a crash is replayed completely, and not from the
// part in memory.
func TestReplayOfAWindowThatTheFoldHasAPartOf(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	for range 12 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.at(w.clock.Add(10 * time.Second))
	}
	w.at(w.clock.Add(2 * time.Minute))
	for _, head := range []uint64{0, 3, 8} {
		w.boot(min(head, 6)) // a crash, and a position from before
		if head == 8 {
			if _, err := w.a.Apply(t.Context(), must(w.reader.Read(t.Context(), 2))); err != nil {
				t.Fatal(err)
			}
		}
		clear(w.store.cells)
		for w.begin(start, start.Add(time.Hour), false); w.again != nil; {
			w.replay()
		}
		compare(t, w.store.cells, recount(w.journal, w.interval))
	}
	w.send()
	w.at(w.clock.Add(2 * time.Minute))
	compare(t, w.store.cells, recount(w.journal, w.interval))
}

// If a replay fails to write a window, the live projection writes it, if the window is in memory.
func TestAReplayThatFailsLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	for range 60 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.at(w.clock.Add(20 * time.Second))
	}
	w.at(w.clock.Add(2 * time.Minute))
	clear(w.store.cells)
	w.store.before = fail(errDown)
	for _, from := range []time.Time{w.clock.Add(-4 * time.Minute), start} {
		w.begin(from, from.Add(90*time.Second), false)
		if _, err := w.step(); err == nil {
			t.Fatal("it did not fail")
		}
	}
	w.store.before = nil
	relays, blocks := w.a.cache.Len(), 0
	for _, win := range w.a.allWindows() {
		blocks += len(win.blocks)
	}
	if n := w.a.cache.Relay(codec.RelayKey{Relay: "web1"}).Data.blocks; n != blocks || relays != 1 || len(w.a.allWindows()) > keepClosed {
		t.Errorf("%d blocks of %d windows, the relay counts %d", blocks, len(w.a.allWindows()), n)
	}
	w.at(w.clock.Add(2 * time.Minute))
	if w.store.len() == 0 {
		t.Error("the windows in memory were not written")
	}
	for _, win := range w.a.allWindows() {
		if win.dirty > 0 {
			t.Errorf("%+v is dirty", win)
		}
	}
	if p := w.position[len(w.position)-1]; p != 60 {
		t.Errorf("position %d", p)
	}
}

func TestReplayTargetsNeedTheirParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := NewRawPast(RawOptions{}, nil, nil); err == nil {
			t.Error("no store")
		}
		if _, err := NewRawPast(RawOptions{Store: newFakeStore()}, nil, nil); err == nil {
			t.Error("no journal")
		}
		s := newStage(t)
		s.live(s.minutes("web1", 0, 12)...)
		raw := must(NewRawPast(RawOptions{Store: s.store}, s.journal, nil)) // no index
		found, err := raw.Find(t.Context(), past.Range{From: s.began, To: s.began.Add(time.Hour)})
		if err != nil || found.Spans.Records() != 12 {
			t.Errorf("%+v, %v", found, err)
		}
		if _, err := NewAggregatesPast(s.aggregates).Step(t.Context(), past.Range{}, []byte("{")); err == nil {
			t.Error("a damaged cursor was taken")
		}
	})
}
