package influx

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// windowOf returns the window of an event of an edge, of time t, from memory, from the index, or a new
// one. It returns nil if the window has expired. An error is temporary: call it again with the same event.
func (a *Aggregates) windowOf(ctx context.Context, of *edgeWindows, t int64, seq uint64, now time.Time) (*window, error) {
	if w := of.current; w != nil && w.contains(t) {
		return w, nil
	}
	for _, w := range of.windows {
		if w.contains(t) {
			of.current = w
			return w, nil
		}
	}
	e, known, err := a.index.find(of.name, t)
	if err != nil {
		return nil, err
	}
	w := &window{edge: of, start: e.start, end: e.end, blocks: make(map[string]*block)}
	if known {
		w.records, w.indexed, w.hold = e.records, e.records.Last(), e.records.Last()
	} else {
		a.bound(w, t, e.start, e.end)
	}
	if a.o.Retention > 0 && w.end < now.Add(-a.o.Retention).UnixNano() {
		return nil, nil
	}
	if err := a.makeRoom(ctx, of, t); err != nil {
		return nil, err
	}
	if below := w.records.Within(journal.Span{Last: seq - 1}); len(below) > 0 {
		w.closed = true
		if err := a.recount(ctx, w, below, seq); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	of.windows = append(of.windows, w)
	a.mu.Unlock()
	of.current = w
	a.countWindows()
	return w, nil
}

// bound sets the start and the end of a new window that holds t. The start is a whole multiple of
// the interval, unless windows of another interval are in the way. freeStart and freeEnd bound the
// time around t that is in no window of the index.
func (a *Aggregates) bound(w *window, t, freeStart, freeEnd int64) {
	interval := int64(a.o.Interval)
	w.start = floor.Div(t, interval) * interval
	w.end = w.start + interval
	w.start, w.end = max(w.start, freeStart), min(w.end, freeEnd)
	for _, other := range w.edge.windows { // some are not in the index yet
		if other.end <= t {
			w.start = max(w.start, other.end)
		} else {
			w.end = min(w.end, other.start)
		}
	}
}

// recount counts the events of w in the records below, which are all before seq, again from the
// journal. If the journal has dropped some of these records, the window is frozen.
func (a *Aggregates) recount(ctx context.Context, w *window, below journal.Spans, seq uint64) error {
	a.recounts.Inc()
	missing, err := a.countRecords(ctx, w, below, false)
	if err != nil {
		a.release(w)
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	a.release(w)
	w.frozen = true
	list(a.o.Rejects, a.log, a.Name(), a.o.Now(), []projector.Reject{{Seq: seq, Reason: fmt.Sprintf(
		"late for the window of %s, whose other events the journal has dropped: the window is left as it is, and what comes late for it is counted only",
		windowName(w.start))}})
	return nil
}

// countRecords reads the records in from, counts the events of w, and returns the records that the
// journal does not have. dirty marks the rows to be written.
func (a *Aggregates) countRecords(ctx context.Context, w *window, from journal.Spans, dirty bool) (missing []journal.Span, err error) {
	for _, s := range from {
		next := s.First
		err := a.o.Journal.Range(ctx, s, func(records []journal.Record, gap *journal.GapError) error {
			if gap != nil {
				missing = append(missing, journal.Span{First: gap.From, Last: gap.To})
				next = gap.To + 1
			}
			for i := range records {
				if e := records[i].Event; e != nil && e.Edge == w.edge.name && w.contains(e.Time) && len(missing) == 0 {
					a.count(w, e, dirty)
				}
				next = records[i].Seq + 1
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("counting the window of %s again: %w", windowName(w.start), err)
		}
		if next <= s.Last { // the journal ends before s.Last
			missing = append(missing, journal.Span{First: next, Last: s.Last})
		}
	}
	return missing, nil
}

// makeRoom closes and forgets windows of an edge if it has as many as it may have. t is the time of
// the event that comes.
func (a *Aggregates) makeRoom(ctx context.Context, of *edgeWindows, t int64) error {
	if len(of.windows) < maxWindows {
		return nil
	}
	if err := a.closeIf(ctx, func(w *window) bool { return w.edge == of && t >= w.end+int64(grace) }); err != nil {
		return err
	}
	a.evict(keepClosed)
	if len(of.windows) < maxWindows {
		return nil
	}
	if err := a.write(ctx, of.windows, all, 0); err != nil {
		return err
	}
	if err := a.closeIf(ctx, func(w *window) bool { return w.edge == of }); err != nil {
		return err
	}
	a.evict(keepClosed)
	return nil
}

// closeIf closes the open windows for which due is true, except those held back, and begins to
// write their rows in their last form. What is left is written by ticks, a part a second, because
// the rows of thousands of relays at once would delay other work. But memory does not hold more
// than one such window of an edge: the rows of its others are written at once.
func (a *Aggregates) closeIf(ctx context.Context, due func(*window) bool) error {
	closing := a.those(func(w *window) bool { return !w.closed && a.head >= w.hold && due(w) })
	if len(closing) == 0 {
		return nil
	}
	newest := make(map[*edgeWindows]*window)
	for _, w := range closing {
		if n := newest[w.edge]; n == nil || n.used < w.used {
			newest[w.edge] = w
		}
	}
	others := a.those(func(w *window) bool {
		n := newest[w.edge]
		return n != nil && w != n && (w.closing || slices.Contains(closing, w))
	})
	if err := a.write(ctx, others, all, 0); err != nil {
		return err
	}
	if err := a.write(ctx, slices.Collect(maps.Values(newest)), all, portion); err != nil {
		return err
	}
	for _, w := range closing {
		w.closed = true
		if w.closing = w.dirty > 0; !w.closing {
			w.pin = 0
		}
		a.closed.Inc()
	}
	return nil
}

// evict forgets closed and frozen windows that are written, except the last used of each edge, keep
// in number.
func (a *Aggregates) evict(keep int) {
	for _, e := range a.edges {
		if len(e.windows) > keep {
			a.evictOf(e, keep)
		}
	}
	a.countWindows()
}

func (a *Aggregates) evictOf(e *edgeWindows, keep int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(e.windows, func(v, w *window) int {
		return cmp.Compare(w.used, v.used)
	})
	e.windows = slices.DeleteFunc(e.windows, func(w *window) bool {
		if !w.closed && !w.frozen || w.dirty > 0 || a.head < w.hold {
			return false
		}
		if keep > 0 {
			keep--
			return false
		}
		a.release(w)
		if e.current == w {
			e.current = nil
		}
		return true
	})
}

// release removes a window's blocks, and forgets the relays that have a block in no other window.
func (a *Aggregates) release(w *window) {
	for _, b := range w.blocks {
		d := &b.relay.Data
		if d.window == w {
			d.window, d.block = nil, nil
		}
		if d.blocks--; d.blocks == 0 {
			a.cache.Drop(b.relay)
		}
	}
	clear(w.blocks)
}
