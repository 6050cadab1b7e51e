package influx

import (
	"cmp"
	"slices"
)

// WindowRow is the row of a window for one stat.
type WindowRow struct {
	// Time is the start of the window, in ns since 1970.
	Time int64
	// Tags are those of the series as InfluxDB has them, sorted by key. They are not changed.
	Tags []Tag
	// The values over the readings that the window has so far.
	Mean, Count, Sum, Min, Max, Last float64
}

// TimeRange is a range of time, in ns since 1970: [From, To).
type TimeRange struct{ From, To int64 }

// Unwritten returns the ranges of time, within [from, to), for which memory has all rows, and some
// that InfluxDB does not have: the windows that are open, and those that are not written in their
// last form. It calls visit with each row of these ranges that has readings of the stat. stat is
// spelled as InfluxDB has it. InfluxDB has the other rows; a row belongs to the range that its time
// is in. The ranges are in order and do not touch.
//
// A window of which memory has only a part of the readings (after a start, and while records are
// projected again) is none of these. Nor is the window of an edge that catches up, when memory does
// not have the windows of the other edges of that time any more: InfluxDB gets its rows when it
// closes, and every few minutes before. Unwritten waits for no one else than for who counts an event.
// It may be called from any goroutine. visit is called while no reading is counted.
func (a *Aggregates) Unwritten(stat string, from, to int64, visit func(WindowRow)) []TimeRange {
	ranges, last := a.unwritten(stat, from, to, visit)
	if len(ranges) == 0 {
		return nil
	}
	// After memory: a window that the index gets meanwhile is only read from InfluxDB for nothing, as
	// is the time after the last range if the index cannot be read.
	edges, err := a.index.edges()
	for _, edge := range edges {
		newest, ok, failure := a.index.newest(edge, to)
		if ok {
			last = max(last, newest.start)
		}
		if failure != nil {
			err = failure
		}
	}
	if r := &ranges[len(ranges)-1]; err == nil && last < r.To {
		r.To = to // no row is known to be after it
	}
	return ranges
}

// unwritten also returns the start of the last window in memory that begins before to.
func (a *Aggregates) unwritten(stat string, from, to int64, visit func(WindowRow)) (ranges []TimeRange, last int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last = from
	for _, w := range a.allWindows() {
		if w.start >= to {
			continue
		}
		last = max(last, w.start)
		if w.start < from || w.dirty == 0 || !a.complete(w) {
			continue
		}
		ranges = append(ranges, TimeRange{w.start, min(w.end, to)})
	}
	ranges = joined(ranges, 1) // of edges
	if len(a.edges) > 1 {
		ranges = slices.DeleteFunc(ranges, func(r TimeRange) bool { return !a.hasAll(r) })
	}
	for _, w := range a.allWindows() {
		if slices.ContainsFunc(ranges, func(r TimeRange) bool { return r.has(w.start) }) {
			a.visit(w, stat, visit)
		}
	}
	return joined(ranges, 0), last
}

// complete reports whether memory has all readings of a window so far.
func (a *Aggregates) complete(w *window) bool { return !w.frozen && a.head >= w.hold }

// hasAll reports whether memory has all rows of a range, of all edges.
func (a *Aggregates) hasAll(r TimeRange) bool {
	for _, e := range a.edges {
		missing := slices.ContainsFunc(e.windows, func(w *window) bool { return r.has(w.start) && !a.complete(w) })
		err := a.index.overlapping(e.name, r.From, r.To, func(known indexEntry) {
			missing = missing || r.has(known.start) && !slices.ContainsFunc(e.windows, func(w *window) bool { return w.start == known.start })
		})
		if missing || err != nil {
			return false
		}
	}
	return true
}

func (r TimeRange) has(t int64) bool { return t >= r.From && t < r.To }

// joined sorts ranges, and joins those that share at least so much time.
func joined(ranges []TimeRange, share int64) []TimeRange {
	slices.SortFunc(ranges, func(x, y TimeRange) int { return cmp.Compare(x.From, y.From) })
	n := 0 // of the joined ranges
	for _, r := range ranges {
		if n > 0 && ranges[n-1].To-r.From >= share {
			ranges[n-1].To = max(ranges[n-1].To, r.To)
			continue
		}
		ranges[n] = r
		n++
	}
	return ranges[:n]
}

// visit visits the rows of a window that have readings of a stat.
func (a *Aggregates) visit(w *window, stat string, visit func(WindowRow)) {
	for _, b := range w.blocks {
		for _, set := range b.relay.Sets {
			for _, s := range set.Series {
				if int(s.Index) >= len(b.accs) || b.accs[s.Index].count == 0 || s.Stat != stat && Clean(s.Stat) != stat || stat == timeKey {
					continue
				}
				row := b.accs[s.Index].row()
				row.Time, row.Tags = w.start, rowTags(b.relay, set).Tags()
				visit(row)
			}
		}
	}
}
