package influx

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// windowOf returns the window of an event of time t, from memory, from the index, or a new one. It
// returns nil if the window has expired. An error is temporary: call it again with the same event.
func (a *Aggregates) windowOf(ctx context.Context, t int64, seq uint64, now time.Time) (*window, error) {
	if w := a.current; w != nil && w.contains(t) {
		return w, nil
	}
	for _, w := range a.windows {
		if w.contains(t) {
			a.current = w
			return w, nil
		}
	}
	e, known, err := a.index.find(t)
	if err != nil {
		return nil, err
	}
	w := &window{start: e.start, end: e.end, blocks: make(map[string]*block)}
	if known {
		w.records, w.indexed, w.hold = e.records, e.records.Last(), e.records.Last()
	} else {
		a.bound(w, t, e.start, e.end)
	}
	if a.o.Retention > 0 && w.end < now.Add(-a.o.Retention).UnixNano() {
		return nil, nil
	}
	if err := a.makeRoom(ctx, t); err != nil {
		return nil, err
	}
	if below := w.records.Within(journal.Span{Last: seq - 1}); len(below) > 0 {
		w.closed = true
		if err := a.recount(ctx, w, below, seq); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	a.windows = append(a.windows, w)
	a.mu.Unlock()
	a.current = w
	a.inMemory.Set(float64(len(a.windows)))
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
	for _, other := range a.windows { // some are not in the index yet
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
				if e := records[i].Event; e != nil && w.contains(e.Time) && len(missing) == 0 {
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

// makeRoom closes and forgets windows if memory is full. t is the time of the event that comes.
func (a *Aggregates) makeRoom(ctx context.Context, t int64) error {
	if len(a.windows) < maxWindows {
		return nil
	}
	if err := a.closeIf(ctx, func(w *window) bool { return t >= w.end+int64(grace) }); err != nil {
		return err
	}
	a.evict(keepClosed)
	if len(a.windows) < maxWindows {
		return nil
	}
	if err := a.write(ctx, a.windows, all, 0); err != nil {
		return err
	}
	if err := a.closeIf(ctx, func(*window) bool { return true }); err != nil {
		return err
	}
	a.evict(keepClosed)
	return nil
}

// closeIf closes the open windows for which due is true, except those held back, and begins to
// write their rows in their last form. What is left is written by ticks, a part a second, because
// the rows of thousands of relays at once would delay other work. But memory does not hold more
// than one such window: the rows of the others are written at once.
func (a *Aggregates) closeIf(ctx context.Context, due func(*window) bool) error {
	closing := a.those(func(w *window) bool { return !w.closed && a.head >= w.hold && due(w) })
	if len(closing) == 0 {
		return nil
	}
	newest := slices.MaxFunc(closing, func(v, w *window) int { return cmp.Compare(v.used, w.used) })
	others := a.those(func(w *window) bool { return w.closing || w != newest && slices.Contains(closing, w) })
	if err := a.write(ctx, others, all, 0); err != nil {
		return err
	}
	if err := a.write(ctx, []*window{newest}, all, portion); err != nil {
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

// evict forgets closed and frozen windows that are written, except the last used, keep in number.
func (a *Aggregates) evict(keep int) {
	if len(a.windows) <= keep {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.windows, func(v, w *window) int {
		return cmp.Compare(w.used, v.used)
	})
	a.windows = slices.DeleteFunc(a.windows, func(w *window) bool {
		if !w.closed && !w.frozen || w.dirty > 0 || a.head < w.hold {
			return false
		}
		if keep > 0 {
			keep--
			return false
		}
		a.release(w)
		if a.current == w {
			a.current = nil
		}
		return true
	})
	a.inMemory.Set(float64(len(a.windows)))
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
