package influx

import (
	"context"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

// newStats is how many stats that InfluxDB has not seen yet go into one Write at most, with six
// fields each. InfluxDB makes a new field by copying all fields of the measurement. So thousands at
// once would take longer than any timeout, and delay the rows of all other relays.
const newStats = 200

// rowBuffer is the memory for one write's points.
type rowBuffer struct {
	points []Point
	fields []Field
	origin []*block // of the points
	seqs   []uint64
	due    []dueBlock // to be written
	taken  []dueBlock // in the points
	keys   map[string]*[6]string
	// known are the stats that InfluxDB has fields for in the shards of the day knownDay, in days
	// since 1970. A shard knows only its own fields.
	known    map[string]struct{}
	knownDay int64
}

// dueBlock is a block of a window that is to be written.
type dueBlock struct {
	w *window
	b *block
}

// fieldKeys returns the names of a stat's fields.
func (b *rowBuffer) fieldKeys(stat string) *[6]string {
	keys := b.keys[stat]
	if keys == nil {
		if b.keys == nil || len(b.keys) >= 1<<16 {
			b.keys = make(map[string]*[6]string)
		}
		fields := influxnames.Fields(stat)
		keys = &fields
		b.keys[stat] = keys
	}
	return keys
}

// selected selects what is written of the dirty blocks.
type selected func(*block) bool

// all selects every dirty block.
func all(*block) bool { return true }

// write writes the dirty rows that are selected, and lists the rows that InfluxDB refuses. most is
// about how many values it writes; 0: all.
func (a *Aggregates) write(ctx context.Context, windows []*window, sel selected, most int) error {
	rejects, err := a.writeDirty(ctx, windows, sel, most)
	list(a.o.Rejects, a.log, a.Name(), a.o.Now(), rejects)
	return err
}

// writeDirty writes the dirty rows that are selected: first the index, then the rows. Rows that
// were written are not dirty any more, even if a later part fails. Windows that are held back stay
// dirty. writeDirty returns the rows that InfluxDB refuses, also with an error.
func (a *Aggregates) writeDirty(ctx context.Context, windows []*window, sel selected, most int) (rejects []projector.Reject, err error) {
	due := a.due(windows, sel, most)
	defer clear(due)
	var unknown []*window
	for _, d := range due {
		if d.w.indexed != d.w.records.Last() && (len(unknown) == 0 || unknown[len(unknown)-1] != d.w) {
			unknown = append(unknown, d.w)
		}
	}
	if len(unknown) > 0 {
		if err := a.index.save(unknown); err != nil {
			return nil, err
		}
		for _, w := range unknown {
			w.indexed = w.records.Last()
		}
	}
	a.resetRows()
	for i, d := range due {
		a.addRows(d)
		if i < len(due)-1 && len(a.rows.points) < writePoints && len(a.rows.fields) < 6*writePoints {
			continue
		}
		refused, err := a.writeRows(ctx)
		rejects = append(rejects, refused...)
		if err != nil {
			return rejects, err
		}
	}
	return rejects, nil
}

// due returns the dirty blocks that are selected, window by window. The slice is valid until the
// next call.
func (a *Aggregates) due(windows []*window, sel selected, most int) []dueBlock {
	due, values := a.rows.due[:0], 0
	for _, w := range windows {
		if w.dirty == 0 || a.head < w.hold {
			continue
		}
		for _, b := range w.blocks {
			if !b.dirty || !sel(b) {
				continue
			}
			due = append(due, dueBlock{w, b})
			if values += 6 * len(b.accs); most > 0 && values >= most {
				a.rows.due = due
				return due
			}
		}
	}
	a.rows.due = due
	return due
}

// addRows adds a block's dirty rows to the buffer.
func (a *Aggregates) addRows(d dueBlock) {
	buf, w, b := &a.rows, d.w, d.b
	buf.taken = append(buf.taken, d)
	for _, set := range b.relay.Sets {
		first := len(buf.fields)
		for _, s := range set.Series {
			if int(s.Index) >= len(b.accs) || !b.accs[s.Index].dirty {
				continue
			}
			if s.Stat == timeKey {
				continue // no field can have that name; Raw lists the reading
			}
			r := b.accs[s.Index].row()
			k := buf.fieldKeys(s.Stat)
			if len(buf.fields)-first == 6*newStats { // split a wide row; InfluxDB joins its points
				a.addPoint(w, b, set, first)
				first = len(buf.fields)
			}
			buf.fields = append(buf.fields, Field{k[0], r.Mean}, Field{k[1], r.Count}, Field{k[2], r.Sum},
				Field{k[3], r.Min}, Field{k[4], r.Max}, Field{k[5], r.Last})
		}
		if first < len(buf.fields) {
			a.addPoint(w, b, set, first)
		}
	}
}

// addPoint makes a point of the buffer's fields from first on.
func (a *Aggregates) addPoint(w *window, b *block, set *lookup.Set[relayState, struct{}], first int) {
	buf := &a.rows
	last := len(buf.fields)
	a.mu.Lock()
	tags := rowTags(b.relay, set)
	a.mu.Unlock()
	buf.points = append(buf.points, Point{Series: tags.Series(influxnames.Aggregate), Fields: buf.fields[first:last:last], Time: w.start})
	buf.origin = append(buf.origin, b)
	buf.seqs = append(buf.seqs, w.records.Last())
}

// rowTags returns the tags of a set in the store's form. It needs mu.
func rowTags(relay *aggRelay, set *lookup.Set[relayState, struct{}]) *TagSet {
	d := &relay.Data
	for len(d.rows) <= set.Index {
		d.rows = append(d.rows, nil)
	}
	if d.rows[set.Index] == nil {
		d.rows[set.Index] = storedTags(set.Tags)
	}
	return d.rows[set.Index]
}

// writeRows writes the rows in the buffer, and returns those that InfluxDB refuses.
func (a *Aggregates) writeRows(ctx context.Context) (rejects []projector.Reject, err error) {
	defer a.resetRows()
	var refusals []refusal
	for from := 0; from < len(a.rows.points); {
		to := a.rows.portion(from)
		refused, err := a.sink.write(ctx, a.rows.points[from:to])
		if err != nil {
			return nil, err
		}
		a.rows.learn(from, to)
		for _, f := range refused {
			f.from, f.to = f.from+from, f.to+from
			refusals = append(refusals, f)
		}
		from = to
	}
	for _, f := range a.rows.byWindow(refusals) {
		if len(rejects) == listedRefusals {
			break
		}
		p := a.rows.points[f.from]
		key := a.rows.origin[f.from].relay.Key
		rejects = append(rejects, projector.Reject{Seq: a.rows.seqs[f.from], Edge: key.Edge, Relay: key.Relay, Stat: p.Fields[0].Key,
			Count: f.count, Window: time.Unix(0, p.Time).UTC(), Reason: fmt.Sprintf("%s (row of the window of %s)", f.reason, time.Unix(0, p.Time).UTC().Format(time.RFC3339))})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.rows.taken {
		d.w.wrote(d.b)
	}
	return rejects, nil
}

// byWindow divides the refusals of points that were all refused: each is of one window.
func (b *rowBuffer) byWindow(refusals []refusal) (each []refusal) {
	for _, f := range refusals {
		if f.count < f.to-f.from { // not known which
			each = append(each, f)
			continue
		}
		for from := f.from; from < f.to; {
			to := from + 1
			for to < f.to && b.windowOf(to) == b.windowOf(from) {
				to++
			}
			each = append(each, refusal{from, to, to - from, f.reason})
			from = to
		}
	}
	return each
}

// windowOf names the window of a point.
func (b *rowBuffer) windowOf(point int) rowWindow {
	return rowWindow{b.origin[point].relay.Key.Edge, b.points[point].Time}
}

type rowWindow struct {
	edge  string
	start int64
}

func (a *Aggregates) resetRows() {
	clear(a.rows.origin) // they keep no window alive
	clear(a.rows.taken)
	a.rows.points, a.rows.fields = a.rows.points[:0], a.rows.fields[:0]
	a.rows.origin, a.rows.seqs, a.rows.taken = a.rows.origin[:0], a.rows.seqs[:0], a.rows.taken[:0]
}

// portion returns the end of the points, from a point on, that go into one write: all the rest,
// unless a new day begins or there are too many new stats.
func (b *rowBuffer) portion(from int) int {
	fresh := 0
	for to := from; to < len(b.points); to++ {
		p := &b.points[to]
		if day := floor.Div(p.Time, int64(24*time.Hour)); b.known == nil || day != b.knownDay || len(b.known) >= 1<<16 {
			if to > from {
				return to
			}
			b.known, b.knownDay = make(map[string]struct{}), day
		}
		for i := 0; i < len(p.Fields); i += 6 {
			if _, ok := b.known[p.Fields[i].Key]; !ok {
				fresh++
			}
		}
		if fresh > newStats && to > from {
			return to
		}
	}
	return len(b.points)
}

// learn notes the stats of points that were written.
func (b *rowBuffer) learn(from, to int) {
	for _, p := range b.points[from:to] {
		for i := 0; i < len(p.Fields); i += 6 {
			b.known[p.Fields[i].Key] = struct{}{}
		}
	}
}
