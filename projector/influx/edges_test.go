package influx

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
)

// of makes an event one of an edge.
func of(edge string, e *codec.Event) *codec.Event {
	e.Edge = edge
	return e
}

func TestTheSameRelayAtTwoEdges(t *testing.T) {
	w := newWorld(t, 1)
	raw := must(NewRaw(RawOptions{Store: w.store}))
	at := w.clock
	events := []*codec.Event{
		event("web1", at, []string{"edge:mine"}, stat("cpu", 1)),
		of("ams1", event("web1", at, []string{"edge:mine"}, stat("cpu", 2))),
		of("fra1", event("web1", at, nil, stat("cpu", 3))),
		of("ams1", event("web1", at.Add(time.Second), []string{"edge:mine"}, stat("cpu", 4))),
	}
	w.send(events...)
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Apply(t.Context(), batch(1, events...)); err != nil {
		t.Fatal(err)
	}
	for tags, sum := range map[string]float64{"edge=mine,host=web1": 1, "edge=ams1,host=web1": 6, "edge=fra1,host=web1": 3} {
		w.store.want(t, PolicyAggregate, "aggregate,"+tags, at.UnixNano(), "cpu:sum", sum)
	}
	for tags, value := range map[string]float64{"edge=mine,host=web1": 1, "edge=ams1,host=web1": 2, "edge=fra1,host=web1": 3} {
		w.store.want(t, PolicyRaw, "cpu,"+tags, at.UnixNano(), "cpu", value)
	}
	if n := w.store.len(); n != 4+3*6 {
		t.Errorf("%d fields are stored", n)
	}
}

// Ten edges catch up, each with the events of another hour, in batches between those of each other
// and of the own relays. There are restarts in the middle.
func TestEdgesThatCatchUp(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint("restarts ", restarts), func(t *testing.T) {
			w := newWorld(t, 7)
			start, restarted := w.clock, 0
			const edges, minutes = 10, 40
			sent := make([]time.Duration, edges) // of each edge's hour
			most := 0
			for step := 0; slices.Min(sent) < minutes*time.Minute; step++ {
				for edge := range sent { // 0 is this Pulse
					began := start.Add(-time.Duration(edge) * time.Hour)
					for range 1 + w.rng.IntN(2) { // fewer than the grace takes
						e := event(fmt.Sprint("web", w.rng.IntN(3)), began.Add(sent[edge]), nil, stat("s0", w.rng.Float64()), stat("s1", 1))
						if sent[edge] += 4 * time.Second; edge > 0 {
							e.Edge = fmt.Sprint("edge", edge)
						}
						w.journal.Append(e)
					}
				}
				for w.apply() {
				}
				w.at(start.Add(sent[0]))
				most = max(most, len(w.a.allWindows()))
				if restarts && step%70 == 69 {
					w.reboot()
					restarted++
				}
			}
			for w.apply() {
			}
			position, err := w.a.Flush(t.Context(), w.clock)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, w.store.cells, recount(w.journal, w.interval))
			recounts, late := counted(t, w.counts, "pulse_projector_window_recounts_total"), counted(t, w.counts, "pulse_projector_late_readings_total")
			// A position is in the midst of the last closed window of each edge.
			if recounts > float64(restarted*edges) || !restarts && late > 0 {
				t.Errorf("%v windows were counted again, %v readings were late", recounts, late)
			}
			if most > edges*(keepClosed+2) {
				t.Errorf("%d windows were in memory", most)
			}
			// Two open windows of each edge are the most that a restart goes over again.
			if last := w.journal.Last(); last-position > last/5 {
				t.Errorf("the position is %d of %d", position, last)
			}
		})
	}
}

// An edge that catches up is cut off again in the middle of a window, for longer than the grace.
func TestAnEdgeThatPauses(t *testing.T) {
	w := newWorld(t, 1)
	then := w.clock.Add(-5 * time.Hour)
	w.send(of("ams1", event("web1", then, nil, stat("cpu", 1))), event("web1", w.clock, nil, stat("cpu", 1)))
	w.at(w.clock.Add(40 * time.Second))
	w.send(of("ams1", event("web1", then.Add(50*time.Second), nil, stat("cpu", 2))))
	if n := counted(t, w.counts, "pulse_projector_late_readings_total"); n != 0 {
		t.Errorf("%v readings were late", n)
	}
	// It is not heard of any more. Its window closes when its own clock must have passed the grace.
	w.at(w.clock.Add(19 * time.Second))
	if n := len(w.a.those(func(w *window) bool { return w.edge.name == "ams1" && w.closed })); n != 0 {
		t.Errorf("%d windows of the edge are closed within the grace", n)
	}
	w.at(w.clock.Add(2 * time.Second))
	if n := len(w.a.those(func(w *window) bool { return w.edge.name == "ams1" && !w.closed })); n != 0 {
		t.Errorf("%d windows of the edge are open after the grace", n)
	}
	w.store.want(t, PolicyAggregate, "aggregate,edge=ams1,host=web1", then.UnixNano(), "cpu:sum", 3)
}

func TestReplayOfEdges(t *testing.T) {
	w := newWorld(t, 1)
	for minute := range 3 {
		at := w.clock.Add(time.Duration(minute) * time.Minute)
		for _, edge := range []string{"", "ams1", "fra1"} {
			w.journal.Append(of(edge, event("web1", at, nil, stat("cpu", 1))))
		}
	}
	for w.apply() {
	}
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	all := w.store.len()
	for _, tt := range []struct {
		edge string
		want int
	}{{"ams1", all / 3}, {"no-such", 0}, {"", all}} {
		for _, restart := range []bool{false, true} { // windows in memory, then in the index
			if restart {
				w.boot(w.journal.Last())
			}
			clear(w.store.cells)
			w.begin(w.clock, w.clock.Add(time.Hour), false)
			w.again.Edge, w.again.stepFor = tt.edge, 0
			for w.again != nil {
				w.replay()
			}
			if n := w.store.len(); n != tt.want {
				t.Errorf("a replay of edge %q (restart %v) wrote %d fields, want %d", tt.edge, restart, n, tt.want)
			}
		}
	}
}

func TestUnwrittenOfEdges(t *testing.T) {
	w := newWorld(t, 1)
	hour := w.clock
	unwritten := func() (ranges []TimeRange, sum map[string]float64) {
		sum = make(map[string]float64)
		ranges = w.a.Unwritten("cpu", hour.Add(-24*time.Hour).UnixNano(), hour.Add(time.Hour).UnixNano(), func(r WindowRow) {
			sum[fmt.Sprintf("%v %v", r.Tags, time.Unix(0, r.Time).Sub(hour))] += r.Sum
		})
		return ranges, sum
	}
	w.send(event("web1", hour, nil, stat("cpu", 1)), of("ams1", event("web1", hour.Add(time.Second), nil, stat("cpu", 2))))
	ranges, sum := unwritten()
	if len(ranges) != 1 || len(sum) != 2 || sum["[{edge ams1} {host web1}] 0s"] != 2 || sum["[{host web1}] 0s"] != 1 {
		t.Errorf("both are live, and there are %v of %v", sum, ranges)
	}
	// The window of ams1 is written. It is still in memory, and read from there beside the other's.
	if err := w.a.write(t.Context(), w.a.those(func(w *window) bool { return w.edge.name == "ams1" }), all, 0); err != nil {
		t.Fatal(err)
	}
	if ranges, sum = unwritten(); len(ranges) != 1 || len(sum) != 2 {
		t.Errorf("one is written, and there are %v of %v", sum, ranges)
	}
	// fra1 comes with what others wrote long ago: InfluxDB has their rows.
	for minute := range 5 {
		w.at(w.clock.Add(time.Minute))
		w.send(event("web1", hour.Add(time.Duration(minute)*time.Minute), nil, stat("cpu", 1)))
	}
	w.at(w.clock.Add(2 * time.Minute))
	w.send(of("fra1", event("web1", hour, nil, stat("cpu", 5))))
	if ranges, sum = unwritten(); len(ranges) != 0 || len(sum) != 0 {
		t.Errorf("memory does not have all of that minute, and there are %v of %v", sum, ranges)
	}
	// fra1's own minute is nobody else's.
	w.send(of("fra1", event("web1", hour.Add(-time.Hour), nil, stat("cpu", 5))))
	if ranges, sum = unwritten(); len(ranges) != 1 || len(sum) != 1 || sum["[{edge fra1} {host web1}] -1h0m0s"] != 5 {
		t.Errorf("memory alone has that minute, and there are %v of %v", sum, ranges)
	}
}

func TestRejectsOfEdges(t *testing.T) {
	w := newWorld(t, 1)
	rejects := projector.NewRejects(w.db)
	w.a = must(NewAggregates(AggregatesOptions{Store: w.store, Journal: w.journal, DB: w.db, Interval: w.interval, Rejects: rejects,
		Now: func() time.Time { return w.clock }}))
	if err := w.a.Begin(t.Context(), projector.Origin{First: 1}); err != nil {
		t.Fatal(err)
	}
	w.store.refuse = func(*Point) string { return "no" }
	at := w.clock
	w.send(event("web1", at, nil, stat("cpu", 1)), of("ams1", event("web1", at, nil, stat("cpu", 2))))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	edges := func() (names []string) {
		for _, r := range must(rejects.List()) {
			names = append(names, r.Edge+"/"+r.Relay)
		}
		slices.Sort(names)
		return names
	}
	if got := edges(); !slices.Equal(got, []string{"/web1", "ams1/web1"}) {
		t.Fatalf("listed: %v", got)
	}
	w.store.refuse = nil
	w.begin(at, at.Add(time.Minute), false)
	for w.again.Edge = "ams1"; w.again != nil; {
		w.replay()
	}
	if got := edges(); !slices.Equal(got, []string{"/web1"}) {
		t.Errorf("after a replay of ams1: %v", got)
	}
}
