package influx

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
)

var (
	_ projector.Projection = (*Aggregates)(nil)
	_ projector.Beginner   = (*Aggregates)(nil)
	_ projector.Ticker     = (*Aggregates)(nil)
	_ projector.Flusher    = (*Aggregates)(nil)
)

// send appends events, and applies once all records that there are.
func (w *world) send(events ...*codec.Event) uint64 {
	w.tb.Helper()
	w.journal.Append(events...)
	for w.apply() {
		if w.pending != nil {
			w.tb.Fatal("Apply failed")
		}
	}
	return w.position[len(w.position)-1]
}

// at moves the clock and ticks each second on the way, as the runner does.
func (w *world) at(t time.Time) uint64 {
	for w.clock.Before(t) {
		w.clock = w.clock.Add(time.Second)
		w.tick()
	}
	return w.position[len(w.position)-1]
}

func (w *world) reboot() { w.boot(w.position[len(w.position)-1]) }

const web1 = "aggregate,host=web1"

func TestAggregateRow(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	w.send(
		event("web1", start.Add(time.Second), nil, stat("cpu", 4), stat("ram", 1)),
		event("web1", start.Add(30*time.Second), nil, stat("cpu", 1)),
		event("web1", start.Add(59999*time.Millisecond), nil, stat("cpu", 2.5)),
		event("web1", start.Add(60*time.Second), nil, stat("cpu", 100)),
	)
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	at := start.UnixNano()
	for field, v := range map[string]float64{"cpu": 2.5, "cpu:count": 3, "cpu:sum": 7.5, "cpu:min": 1, "cpu:max": 4, "cpu:last": 2.5,
		"ram": 1, "ram:count": 1, "ram:sum": 1, "ram:min": 1, "ram:max": 1, "ram:last": 1} {
		w.store.want(t, PolicyAggregate, web1, at, field, v)
	}
	w.store.want(t, PolicyAggregate, web1, start.Add(time.Minute).UnixNano(), "cpu:sum", 100)
	if w.store.points != 2 {
		t.Errorf("%d points for two rows", w.store.points)
	}
}

func TestPositionStaysBeforeTheOldestOpenWindow(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	if p := w.send(event("web1", start, nil, stat("cpu", 1)), event("web1", start.Add(59*time.Second), nil, stat("cpu", 1))); p != 0 {
		t.Fatalf("position %d", p)
	}
	if p := w.send(event("web1", start.Add(61*time.Second), nil, stat("cpu", 1))); p != 0 {
		t.Fatalf("position %d within the grace", p)
	}
	if p := w.send(event("web1", start.Add(71*time.Second), nil, stat("cpu", 1))); p != 2 {
		t.Fatalf("position %d once the first window is closed, want 2", p)
	}
	w.store.want(t, PolicyAggregate, web1, start.UnixNano(), "cpu:count", 2)
	// No event comes any more: the wall clock closes the second window.
	w.clock = start.Add(71 * time.Second)
	if p := w.at(start.Add(2*time.Minute + grace + 2*time.Second)); p != 4 {
		t.Fatalf("position %d after the wall clock passed the window's end, want 4", p)
	}
}

func TestAClockThatWasAheadHoldsNothingBack(t *testing.T) {
	w := newWorld(t, 1)
	w.send(event("web1", w.clock.AddDate(10, 0, 0), nil, stat("cpu", 1)))
	for range 30 {
		w.at(w.clock.Add(10 * time.Second))
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
	}
	if p := w.position[len(w.position)-1]; p < 20 {
		t.Fatalf("position %d of 31: the window of the future holds it", p)
	}
	if n := len(w.a.allWindows()); n > keepClosed+2 { // one more window is within its grace
		t.Errorf("%d windows in memory", n)
	}
	w.at(w.clock.Add(5 * time.Minute))
	compare(t, w.store.cells, recount(w.journal, w.interval))
}

// late makes 20 windows, restarts, and sends an event for the first of them.
func late(t *testing.T, before func(w *world)) (*world, *prometheus.Registry, *projector.Rejects) {
	t.Helper()
	w := newWorld(t, 1)
	start := w.clock
	for range 60 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.at(w.clock.Add(20 * time.Second))
	}
	w.at(w.clock.Add(2 * time.Minute))
	w.reboot()
	reg, rejects := prometheus.NewRegistry(), projector.NewRejects(w.db)
	w.a = must(NewAggregates(AggregatesOptions{Store: w.store, Journal: w.journal, DB: w.db, Interval: w.interval,
		Registerer: reg, Rejects: rejects, Now: func() time.Time { return w.clock }}))
	if err := w.a.Begin(t.Context(), projector.Origin{Position: 60, First: 1, Last: 60}); err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(w)
	}
	w.send(event("web1", start.Add(30*time.Second), nil, stat("cpu", 5)), event("web1", w.clock, nil, stat("cpu", 7)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	return w, reg, rejects
}

func TestLateEventCountsItsWindowAgain(t *testing.T) {
	w, reg, _ := late(t, nil)
	compare(t, w.store.cells, recount(w.journal, w.interval))
	if n := counted(t, reg, "pulse_projector_late_readings_total"); n != 1 {
		t.Errorf("%v late readings counted", n)
	}
	if n := counted(t, reg, "pulse_projector_window_recounts_total"); n != 1 {
		t.Errorf("%v recounts counted", n)
	}
	if n := w.journal.OpenReaders(); n != 2 { // of the world, before and after the reboot
		t.Errorf("%d readers are open", n)
	}
}

func TestLateEventForAWindowWhoseEventsAreGoneChangesNothing(t *testing.T) {
	var was map[cell]float64
	var start int64
	w, reg, rejects := late(t, func(w *world) {
		w.journal.Trim(3)
		was = recount(w.journal, w.interval)
		w.journal.Events(func(seq uint64, e *codec.Event) {
			if start == 0 {
				start = e.Time
			}
		})
	})
	first := time.Unix(0, start).Truncate(time.Minute).UnixNano()
	w.store.want(t, PolicyAggregate, web1, first, "cpu:count", 3)
	w.store.want(t, PolicyAggregate, web1, first, "cpu:sum", 3)
	if n := counted(t, reg, "pulse_projector_late_readings_lost_total"); n != 1 {
		t.Errorf("%v lost readings counted", n)
	}
	if list := must(rejects.List()); len(list) != 1 || list[0].Seq != 61 {
		t.Errorf("listed %+v", list)
	}
	if len(was) == 0 {
		t.Error("the test did not run")
	}
	// The other windows go on.
	if p := w.position[len(w.position)-1]; p != 61 {
		t.Errorf("position %d, want 61: the frozen window holds nothing", p)
	}
}

// InfluxDB was emptied, and the journal has dropped a part of a window: the row is made of the
// other records. If the rows were not known to be gone, the window would be left as it is: without
// a row.
func TestRowsGone(t *testing.T) {
	w := newWorld(t, 1)
	w.interval = time.Minute
	w.boot(0)
	for range 10 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.at(w.clock.Add(20 * time.Second))
	}
	w.at(w.clock.Add(2 * time.Minute))
	if oldest := must(w.a.Oldest()); oldest.IsZero() || oldest.After(w.clock) {
		t.Errorf("the oldest window begins at %v", oldest)
	}
	w.journal.Trim(3) // within the first window
	clear(w.store.cells)
	if err := w.a.RowsGone(); err != nil {
		t.Fatal(err)
	}
	w.at(w.clock.Add(2 * time.Minute)) // no window is open any more
	if err := w.a.Begin(t.Context(), projector.Origin{Position: 2, First: 3, Last: w.journal.Last()}); err != nil {
		t.Fatal(err)
	}
	w.reader, w.position = must(w.journal.ReadFrom(3)), []uint64{2}
	w.send(event("web1", w.clock, nil, stat("cpu", 1)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	compare(t, w.store.cells, recount(w.journal, w.interval))
	w.reboot() // from now on the index counts again
	if oldest := must(w.a.Oldest()); oldest.IsZero() {
		t.Error("the index is empty")
	}
}

func TestTheJournalLostItsEnd(t *testing.T) {
	w := newWorld(t, 1)
	w.store.check = nil // the readings that the journal lost are not counted any more
	for i := range 10 {
		w.send(event("web1", w.clock.Add(time.Duration(i)*time.Second), nil, stat("cpu", float64(i))))
	}
	w.at(w.clock.Add(time.Minute))
	w.journal.Cut(6)
	w.boot(min(w.position[len(w.position)-1], 6))
	start := w.clock.Truncate(time.Hour)
	w.send(event("web1", start.Add(20*time.Second), nil, stat("cpu", 100)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	compare(t, w.store.cells, recount(w.journal, w.interval))
	// The journal lost all records: its numbers begin again.
	w.journal.Cut(0)
	w.boot(0)
	w.send(event("web1", start.Add(25*time.Second), nil, stat("cpu", 1)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	compare(t, w.store.cells, recount(w.journal, w.interval))
}

func TestIntervalChange(t *testing.T) {
	for _, tt := range []struct{ old, new time.Duration }{{time.Minute, 20 * time.Second}, {20 * time.Second, time.Minute}, {time.Minute, 7 * time.Second}} {
		w := newWorld(t, 1)
		w.interval = tt.old
		w.boot(0)
		start := w.clock
		put := func(until time.Duration) {
			for w.clock.Sub(start) < until {
				w.send(event("web1", w.clock, nil, stat("cpu", 1)))
				w.at(w.clock.Add(3 * time.Second))
			}
			if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
				t.Fatal(err)
			}
		}
		put(150 * time.Second)
		w.interval = tt.new
		w.reboot()
		put(300 * time.Second)
		w.send(event("web1", start.Add(10*time.Second), nil, stat("cpu", 1)), event("web1", start.Add(200*time.Second), nil, stat("cpu", 1))) // late
		if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for c, v := range w.store.cells {
			if c.field == "cpu:count" {
				sum += v
			}
		}
		if sum != float64(w.journal.Last()) {
			t.Errorf("%v to %v: the rows count %v readings, the journal has %d", tt.old, tt.new, sum, w.journal.Last())
		}
	}
}

func TestAggregatesExtremes(t *testing.T) {
	w := newWorld(t, 1)
	w.send(event("web1", w.clock, nil, stat("big", math.MaxFloat64), stat("big", math.MaxFloat64), stat("neg", -math.MaxFloat64),
		stat("neg", -math.MaxFloat64), stat("nan", math.NaN()), stat("ok", 1), stat("time", 1)))
	w.send(event("web1", w.clock, nil, stat("both", 1.5e308), stat("both", 1e308), stat("both", -1e308), stat("tenth", 0.1), stat("tenth", 0.1), stat("tenth", 0.1)))
	for range 32 {
		w.send(event("web1", w.clock, nil, stat("same", 1e308)))
	}
	old := w.clock.Add(-100 * time.Hour)
	w.a.o.Retention = time.Hour
	w.send(event("web1", old, nil, stat("ok", 1)), event("web1", time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), nil, stat("ok", 1)))
	w.a.o.Retention = 0
	w.send(event("web1", time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), nil, stat("ok", 3)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	at := w.clock.UnixNano()
	w.store.want(t, PolicyAggregate, web1, at, "big:sum", math.MaxFloat64)
	w.store.want(t, PolicyAggregate, web1, at, "big", math.MaxFloat64)
	w.store.want(t, PolicyAggregate, web1, at, "neg", -math.MaxFloat64)
	w.store.want(t, PolicyAggregate, web1, at, "same", 1e308)
	w.store.want(t, PolicyAggregate, web1, at, "same:sum", math.MaxFloat64)
	w.store.want(t, PolicyAggregate, web1, at, "both:sum", 1.5e308) // the sum overflowed in between
	w.store.want(t, PolicyAggregate, web1, at, "both", 0.5e308)
	w.store.want(t, PolicyAggregate, web1, at, "tenth", 0.1) // 0.1+0.1+0.1 is more than three times it
	w.store.want(t, PolicyAggregate, web1, at, "neg:sum", -math.MaxFloat64)
	w.store.want(t, PolicyAggregate, web1, at, "ok:count", 1)
	w.store.want(t, PolicyAggregate, web1, time.Date(1969, 12, 31, 23, 59, 0, 0, time.UTC).UnixNano(), "ok:last", 3)
	for c := range w.store.cells {
		if c.field == "nan" || c.field == "time:count" || c.time == old.Truncate(time.Minute).UnixNano() {
			t.Errorf("stored: %+v", c)
		}
	}
}

func TestAggregatesRefusedRow(t *testing.T) {
	w := newWorld(t, 1)
	rejects := projector.NewRejects(w.db)
	w.a.o.Rejects = rejects
	w.store.refuse = func(p *Point) string {
		if string(p.Series.AppendKey(nil)) == web1 {
			return "max-series-per-database limit exceeded"
		}
		return ""
	}
	w.send(event("web1", w.clock, nil, stat("cpu", 1)), event("web2", w.clock, nil, stat("cpu", 2)))
	if p := w.at(w.clock.Add(2 * time.Minute)); p != 2 {
		t.Fatalf("position %d: a refused row must not hold it", p)
	}
	w.store.want(t, PolicyAggregate, "aggregate,host=web2", w.clock.Add(-2*time.Minute).UnixNano(), "cpu", 2)
	if list := must(rejects.List()); len(list) != 1 || list[0].Relay != "web1" || list[0].Stat != "cpu" {
		t.Fatalf("listed %+v", list)
	}
}

func TestAggregatesOptions(t *testing.T) {
	w := newWorld(t, 1)
	good := AggregatesOptions{Store: w.store, Journal: w.journal, DB: w.db, Interval: time.Minute}
	for name, change := range map[string]func(*AggregatesOptions){
		"store": func(o *AggregatesOptions) { o.Store = nil }, "journal": func(o *AggregatesOptions) { o.Journal = nil },
		"db": func(o *AggregatesOptions) { o.DB = nil }, "interval": func(o *AggregatesOptions) { o.Interval = 0 },
		"retention": func(o *AggregatesOptions) { o.Retention = -1 },
	} {
		o := good
		change(&o)
		if _, err := NewAggregates(o); err == nil {
			t.Errorf("without %s it is accepted", name)
		}
	}
	if _, err := NewRaw(RawOptions{}); err == nil {
		t.Error("raw without a store is accepted")
	}
}

// InfluxDB takes long to make fields. A relay with thousands of stats must not be one write that
// takes longer than any timeout, and no field may get lost when its row is written in parts.
func TestAggregatesWideRelay(t *testing.T) {
	w := newWorld(t, 1)
	const stats = 1500
	var wide []codec.Stat
	for i := range stats {
		wide = append(wide, stat(fmt.Sprint("s", i), float64(i)))
	}
	seen := make(map[string]bool)
	w.store.before = func(points []Point) (int, error) {
		fresh := 0
		for _, p := range points {
			for _, f := range p.Fields {
				if name, _, _ := strings.Cut(f.Key, ":"); !seen[name] {
					seen[name] = true
					fresh++
				}
			}
		}
		if fresh > newStats {
			t.Errorf("a write brings %d new stats", fresh)
		}
		return len(points), nil
	}
	w.send(event("wide", w.clock, nil, wide...), event("web1", w.clock, nil, stat("cpu", 1)))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	at := w.clock.UnixNano()
	for i := range stats {
		w.store.want(t, PolicyAggregate, "aggregate,host=wide", at, fmt.Sprintf("s%d:last", i), float64(i))
	}
	w.store.want(t, PolicyAggregate, web1, at, "cpu:count", 1)

	writes := w.store.writes
	w.send(event("wide", w.clock, nil, wide...))
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	if n := w.store.writes - writes; n > 2 {
		t.Errorf("%d writes for stats that InfluxDB knows, want 2 at the same time", n)
	}
}
