package influx

import (
	"fmt"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// The rows of an open window are written a few at a time, and none is older than rowAge. Nothing is
// written twice without a new reading. The position stays before the window.
func TestOpenWindowsAreWrittenInSlices(t *testing.T) {
	const relays = 100
	w := newWorld(t, 1)
	w.interval = time.Hour
	w.boot(0)
	began, most, rows := w.clock, 0, 0
	w.store.before = func(points []Point) (int, error) {
		most, rows = max(most, len(points)), rows+len(points)
		return 0, nil
	}
	sent := 0 // to each relay
	var when []time.Time
	for w.clock.Sub(began) < 40*time.Minute {
		for i := range relays {
			w.send(event(fmt.Sprint("web", i), w.clock, nil, stat("cpu", 1)))
		}
		sent, when = sent+1, append(when, w.clock)
		w.at(w.clock.Add(10 * time.Second))
		old := 0 // readings that are older than rowAge
		for old < sent && w.clock.Sub(when[old]) > rowAge {
			old++
		}
		for i := range relays {
			n, _ := w.store.get(PolicyAggregate, fmt.Sprint("aggregate,host=web", i), began.UnixNano(), "cpu:count")
			if n < float64(old) {
				t.Fatalf("after %v the row of web%d has %v of %d readings that are older than %v", w.clock.Sub(began), i, n, old, rowAge)
			}
		}
	}
	if most > relays/openSlices+1 {
		t.Errorf("%d rows were written at once", most)
	}
	if rows < 7*relays || rows > 10*relays {
		t.Errorf("%d rows of %d relays were written in 40 minutes", rows, relays)
	}
	if p := w.position[len(w.position)-1]; p != 0 {
		t.Errorf("the position is %d although the window is open", p)
	}
	before := w.store.points
	w.at(w.clock.Add(10 * time.Minute)) // the rest is written
	w.store.want(t, PolicyAggregate, web1, began.UnixNano(), "cpu:count", float64(sent))
	if n := w.store.points - before; n > relays {
		t.Errorf("%d rows were written for %d that changed", n, relays)
	}
}

// An open window that is shorter than rowAge is written once: when it closes.
func TestAShortWindowIsWrittenOnce(t *testing.T) {
	w := newWorld(t, 1)
	for range 11 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.at(w.clock.Add(5 * time.Second))
	}
	if w.store.points != 0 {
		t.Fatalf("%d rows were written before the window ended", w.store.points)
	}
	w.at(w.clock.Add(2 * time.Minute))
	if w.store.points != 1 {
		t.Fatalf("%d rows were written", w.store.points)
	}
	w.store.want(t, PolicyAggregate, web1, w.clock.Truncate(time.Hour).UnixNano(), "cpu:count", 11)
}

// The rows of thousands of relays are written over some seconds when their window closes. Until then
// memory shows them, and the position stays before the window. When a second window closes, the rest
// of the first is written at once.
func TestAClosingWindowIsWrittenInPortions(t *testing.T) {
	const relays, stats = 2500, 10
	w := newWorld(t, 1)
	start := w.clock
	poll := func() {
		events := make([]*codec.Event, relays)
		for i := range events {
			var list []codec.Stat
			for s := range stats {
				list = append(list, stat(fmt.Sprint("s", s), float64(i)))
			}
			events[i] = event(fmt.Sprint("web", i), w.clock, nil, list...)
		}
		w.send(events...)
	}
	shown := func(at time.Time) (rows int) {
		ranges := w.a.Unwritten("s1", at.UnixNano(), at.Add(w.interval).UnixNano(), func(WindowRow) { rows++ })
		if len(ranges) == 0 {
			return w.rowsAt(at)
		}
		return rows
	}
	poll()
	if w.rowsAt(start) != 0 || shown(start) != relays {
		t.Fatalf("%d rows are written, %d shown", w.rowsAt(start), shown(start))
	}
	last := 0
	for range 200 {
		w.at(w.clock.Add(time.Second))
		n, position := w.rowsAt(start), w.position[len(w.position)-1]
		if n-last > portion/6/stats+1 {
			t.Fatalf("%d rows were written at once", n-last)
		}
		if shown(start) != relays {
			t.Fatalf("%d rows are shown while %d are written", shown(start), n)
		}
		if (position == relays) != (n == relays) {
			t.Fatalf("the position is %d with %d rows written", position, n)
		}
		last = n
	}
	if last != relays {
		t.Fatalf("%d rows are written", last)
	}

	w.clock = start.Add(10 * time.Minute)
	first := w.clock
	poll()
	w.clock = w.clock.Add(w.interval + grace)
	poll() // closes the first
	if n := w.rowsAt(first); n == 0 || n == relays {
		t.Fatalf("%d rows are written when the window has just closed", n)
	}
	w.clock = w.clock.Add(w.interval + grace)
	poll()
	if n := w.rowsAt(first); n != relays {
		t.Fatalf("%d rows are written when the next window has closed", n)
	}
}

// rowsAt counts the rows of a window in the store.
func (w *world) rowsAt(start time.Time) (rows int) {
	for c := range w.store.cells {
		if c.time == start.UnixNano() && c.field == "s1:count" {
			rows++
		}
	}
	return rows
}

// Late readings of a closed window are shown at once, and written after a minute.
func TestLateReadingsWaitAMinute(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	w.send(event("web1", start, nil, stat("cpu", 1)))
	w.at(start.Add(3 * time.Minute))
	w.send(event("web1", start.Add(time.Second), nil, stat("cpu", 2)))
	count := 0.0
	ranges := w.a.Unwritten("cpu", 0, w.clock.UnixNano(), func(r WindowRow) { count += r.Count })
	if len(ranges) != 1 || count != 2 {
		t.Errorf("%v readings are shown in %v", count, ranges)
	}
	w.at(w.clock.Add(lateAge - 2*time.Second))
	w.store.want(t, PolicyAggregate, web1, start.UnixNano(), "cpu:count", 1)
	w.at(w.clock.Add(3 * time.Second))
	w.store.want(t, PolicyAggregate, web1, start.UnixNano(), "cpu:count", 2)
	if ranges := w.a.Unwritten("cpu", 0, w.clock.UnixNano(), func(WindowRow) { t.Error("a written row is shown from memory") }); len(ranges) != 0 {
		t.Errorf("ranges %v", ranges)
	}
}

// Of a window that memory has only a part of, InfluxDB's rows are shown: after a start, until the
// records that they are made of have come again.
func TestAPartOfAWindowIsNotShown(t *testing.T) {
	w := newWorld(t, 1)
	w.interval = time.Hour
	w.boot(0)
	for range 10 {
		w.send(event("web1", w.clock, nil, stat("cpu", 1)))
		w.clock = w.clock.Add(time.Second)
	}
	if _, err := w.a.Flush(t.Context(), w.clock); err != nil {
		t.Fatal(err)
	}
	w.boot(0) // kill -9: all records come again
	w.pending = must(w.reader.Read(t.Context(), 9))
	w.apply()
	none := func(WindowRow) { t.Error("a part of the window is shown") }
	if ranges := w.a.Unwritten("cpu", 0, w.clock.UnixNano(), none); len(ranges) != 0 {
		t.Errorf("ranges %v with nine of ten records", ranges)
	}
	w.send(event("web1", w.clock, nil, stat("cpu", 1)))
	count := 0.0
	ranges := w.a.Unwritten("cpu", 0, w.clock.Add(100*time.Hour).UnixNano(), func(r WindowRow) { count = r.Count })
	if want := (TimeRange{w.clock.Truncate(time.Hour).UnixNano(), w.clock.Add(100 * time.Hour).UnixNano()}); count != 11 || len(ranges) != 1 || ranges[0] != want {
		t.Errorf("%v readings in %v, want 11 in %v: no window is after it", count, ranges, want)
	}
}

// A clock that was ahead has left rows in the future: the range of the open window ends where it
// does, so that InfluxDB is asked for them.
func TestTheRangeEndsBeforeLaterRows(t *testing.T) {
	w := newWorld(t, 1)
	start := w.clock
	w.send(event("web1", start.Add(24*time.Hour), nil, stat("cpu", 1)))
	w.at(start.Add(3 * time.Minute)) // it is closed
	w.boot(w.position[len(w.position)-1])
	w.send(event("web1", w.clock, nil, stat("cpu", 1)))
	ranges := w.a.Unwritten("cpu", 0, start.Add(100*time.Hour).UnixNano(), func(WindowRow) {})
	if want := (TimeRange{w.clock.UnixNano(), w.clock.Add(time.Minute).UnixNano()}); len(ranges) != 1 || ranges[0] != want {
		t.Errorf("ranges %v, want %v", ranges, want)
	}
}
