package influx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// scanBatch is how many records are read at once when a window is counted again.
const scanBatch = 1000

// windowOf finds the window of an event, in memory, in the index, or new. It is nil if the window has expired. An error
// is temporary, and nothing has changed then.
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
		w.records, w.indexed, w.hold = e.records, e.records.last(), e.records.last()
	} else {
		a.bound(w, t, e.start, e.end)
	}
	if a.o.Retention > 0 && w.end < now.Add(-a.o.Retention).UnixNano() {
		return nil, nil
	}
	if err := a.makeRoom(ctx, t); err != nil {
		return nil, err
	}
	if below := w.records.before(seq); len(below) > 0 {
		w.closed = true
		if err := a.recount(ctx, w, below, seq); err != nil {
			return nil, err
		}
	}
	a.windows = append(a.windows, w)
	a.current = w
	a.inMemory.Set(float64(len(a.windows)))
	return w, nil
}

// bound gives a new window its place: a whole multiple of the interval, unless windows of another interval are in the
// way (free is the time that the index leaves around t).
func (a *Aggregates) bound(w *window, t, freeStart, freeEnd int64) {
	interval := int64(a.o.Interval)
	w.start = floorDiv(t, interval) * interval
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

// recount counts the events of w in the records below, all before seq, from the journal. If it has dropped some of them
// the window is frozen.
func (a *Aggregates) recount(ctx context.Context, w *window, below extents, seq uint64) error {
	a.recounts.Inc()
	for _, x := range below {
		whole, err := a.scan(ctx, w, x)
		if err != nil {
			a.release(w)
			return fmt.Errorf("counting the window of %s again: %w", time.Unix(0, w.start).UTC().Format(time.RFC3339), err)
		}
		if whole {
			continue
		}
		a.release(w)
		w.frozen = true
		list(a.o.Rejects, a.log, a.Name(), a.o.Now(), []projector.Reject{{Seq: seq, Reason: fmt.Sprintf(
			"late for the window of %s, whose other events the journal has dropped: the window is left as it is, and what comes late for it is counted only",
			time.Unix(0, w.start).UTC().Format(time.RFC3339))}})
		return nil
	}
	return nil
}

// scan counts the events of w in an extent, and says whether the journal has all of its records.
func (a *Aggregates) scan(ctx context.Context, w *window, x extent) (whole bool, err error) {
	reader, err := a.o.Journal.ReadFrom(x.first)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for next := x.first; ; {
		records, err := reader.Read(ctx, scanBatch)
		if _, ok := errors.AsType[*journal.GapError](err); ok {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if records[0].Seq != next { // a journal without its first record begins with the oldest it has
			return false, nil
		}
		for i := range records {
			rec := &records[i]
			if rec.Event != nil && w.contains(rec.Event.Time) {
				a.count(w, rec.Event, false)
			}
			if rec.Seq == x.last {
				return true, nil
			}
		}
		next = records[len(records)-1].Seq + 1
	}
}

// makeRoom closes and forgets windows before another comes.
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
	if err := a.write(ctx, a.windows); err != nil {
		return err
	}
	if err := a.closeIf(ctx, func(*window) bool { return true }); err != nil {
		return err
	}
	a.evict(keepClosed)
	return nil
}

// closeIf writes and closes the open windows that are due.
func (a *Aggregates) closeIf(ctx context.Context, due func(*window) bool) error {
	var closing []*window
	for _, w := range a.windows {
		if !w.closed && a.head >= w.hold && due(w) {
			closing = append(closing, w)
		}
	}
	if len(closing) == 0 {
		return nil
	}
	if err := a.write(ctx, closing); err != nil {
		return err
	}
	for _, w := range closing {
		w.closed, w.pin = true, 0
		a.closed.Inc()
	}
	if !slices.ContainsFunc(a.windows, func(w *window) bool { return w.dirty }) {
		a.dirtySince = time.Time{}
	}
	return nil
}

// evict forgets closed windows that are written, except the keep that got an event last.
func (a *Aggregates) evict(keep int) {
	if len(a.windows) <= keep {
		return
	}
	slices.SortFunc(a.windows, func(v, w *window) int {
		return cmp.Compare(w.used, v.used)
	})
	a.windows = slices.DeleteFunc(a.windows, func(w *window) bool {
		if !w.closed && !w.frozen || w.dirty || a.head < w.hold {
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

// release takes a window's blocks away, and forgets the relays that are in no other.
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

// rowBuffer is the memory for one write's points.
type rowBuffer struct {
	points []Point
	fields []Field
	origin []*block // of the points
	seqs   []uint64
	keys   map[string]*[6]string
}

// fieldKeys are the names of a stat's fields.
func (b *rowBuffer) fieldKeys(stat string) *[6]string {
	keys := b.keys[stat]
	if keys == nil {
		if b.keys == nil || len(b.keys) >= 1<<16 {
			b.keys = make(map[string]*[6]string)
		}
		keys = &[6]string{stat, stat + ":count", stat + ":sum", stat + ":min", stat + ":max", stat + ":last"}
		b.keys[stat] = keys
	}
	return keys
}

// write writes the dirty rows of windows: first the index, then the rows. What was written is not dirty any more even if
// a later part fails. Windows that are held back stay dirty.
func (a *Aggregates) write(ctx context.Context, windows []*window) error {
	var dirty, unknown []*window
	for _, w := range windows {
		if !w.dirty || a.head < w.hold {
			continue
		}
		dirty = append(dirty, w)
		if w.indexed != w.records.last() {
			unknown = append(unknown, w)
		}
	}
	if len(unknown) > 0 {
		if err := a.index.save(unknown); err != nil {
			return err
		}
		for _, w := range unknown {
			w.indexed = w.records.last()
		}
	}
	a.resetRows()
	for _, w := range dirty {
		for _, b := range w.blocks {
			if !b.dirty {
				continue
			}
			a.addRows(w, b)
			if len(a.rows.points) >= writePoints || len(a.rows.fields) >= 6*writePoints {
				if err := a.writeRows(ctx); err != nil {
					return err
				}
			}
		}
	}
	if err := a.writeRows(ctx); err != nil {
		return err
	}
	for _, w := range dirty {
		w.dirty = false
		if w.closed {
			w.pin = 0
		}
	}
	return nil
}

// addRows makes a block's dirty rows.
func (a *Aggregates) addRows(w *window, b *block) {
	buf := &a.rows
	for _, set := range b.relay.Sets {
		first := len(buf.fields)
		for _, s := range set.Series {
			if s.Index >= len(b.accs) || !b.accs[s.Index].dirty {
				continue
			}
			if s.Stat == timeKey {
				continue // no field can have that name; raw lists it
			}
			c := &b.accs[s.Index]
			n := float64(c.count)
			sum := min(max(c.sum, -math.MaxFloat64), math.MaxFloat64) // InfluxDB has no infinities
			k := buf.fieldKeys(s.Stat)
			buf.fields = append(buf.fields, Field{k[0], sum / n}, Field{k[1], n}, Field{k[2], sum},
				Field{k[3], c.min}, Field{k[4], c.max}, Field{k[5], c.last})
		}
		if first == len(buf.fields) {
			continue
		}
		d := &b.relay.Data
		for len(d.rows) <= set.Index {
			d.rows = append(d.rows, nil)
		}
		if d.rows[set.Index] == nil {
			d.rows[set.Index] = NewSeries("aggregate", storedTags(set.Tags)...)
		}
		last := len(buf.fields)
		buf.points = append(buf.points, Point{Series: d.rows[set.Index], Fields: buf.fields[first:last:last], Time: w.start})
		buf.origin = append(buf.origin, b)
		buf.seqs = append(buf.seqs, w.records.last())
	}
}

// writeRows writes the rows in the buffer.
func (a *Aggregates) writeRows(ctx context.Context) error {
	defer a.resetRows()
	refusals, err := a.sink.write(ctx, a.rows.points)
	if err != nil {
		return err
	}
	var rejects []projector.Reject
	for _, f := range refusals {
		if len(rejects) == listedRefusals {
			break
		}
		p := a.rows.points[f.from]
		rejects = append(rejects, projector.Reject{Seq: a.rows.seqs[f.from], Relay: a.rows.origin[f.from].relay.ID, Stat: p.Fields[0].Key,
			Count: f.count, Reason: fmt.Sprintf("%s (row of the window of %s)", f.reason, time.Unix(0, p.Time).UTC().Format(time.RFC3339))})
	}
	list(a.o.Rejects, a.log, a.Name(), a.o.Now(), rejects)
	for _, b := range a.rows.origin {
		if !b.dirty {
			continue
		}
		b.dirty = false
		for i := range b.accs {
			b.accs[i].dirty = false
		}
	}
	return nil
}

func (a *Aggregates) resetRows() {
	a.rows.points, a.rows.fields = a.rows.points[:0], a.rows.fields[:0]
	a.rows.origin, a.rows.seqs = a.rows.origin[:0], a.rows.seqs[:0]
}
