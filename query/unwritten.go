package query

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/internal/wide"
	"github.com/nanopack/pulse/projector/influx"
)

// unwritten is what memory has of a selection, in place of InfluxDB's rows of the same ranges.
type unwritten struct {
	ranges []influx.TimeRange
	rows   []influx.WindowRow // oldest first
}

// unwritten asks the aggregates what InfluxDB does not have. It comes before InfluxDB is asked: what
// is written in between is newer, and is not in these ranges.
func (s *Server) unwritten(q question) (u unwritten) {
	if s.o.Windows == nil || q.from >= q.to {
		return u
	}
	fs := q.filters
	u.ranges = s.o.Windows.Unwritten(q.stored(q.stat), q.from, q.to, func(r influx.WindowRow) {
		if fs.match(r.Tags) {
			u.rows = append(u.rows, r)
		}
	})
	slices.SortStableFunc(u.rows, func(a, b influx.WindowRow) int { return cmp.Compare(a.Time, b.Time) })
	u.ranges = u.besideMeans(s.o.MeansUntil())
	return u
}

// besideMeans returns the ranges without the time before until, but for that of u's rows themselves:
// a window that is open may be longer than those of Pulse 0.2, whose rows lie within it.
func (u unwritten) besideMeans(until int64) []influx.TimeRange {
	if len(u.ranges) == 0 || u.ranges[0].From >= until {
		return u.ranges
	}
	var ranges []influx.TimeRange
	for _, r := range u.ranges {
		for _, row := range rowsWithin(u.rows, r.From, min(r.To, until)) {
			if n := len(ranges); n == 0 || ranges[n-1].From != row.Time {
				ranges = append(ranges, influx.TimeRange{From: row.Time, To: row.Time + 1})
			}
		}
		if r.From = max(r.From, until); r.From < r.To {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// match reports whether a series with these tags is selected. A series without a tag has the value
// "" of it, as in InfluxDB.
func (f filters) match(tags []influx.Tag) bool {
	for _, one := range f {
		if !slices.Contains(one.values, tagValue(tags, one.key)) {
			return false
		}
	}
	return true
}

func tagValue(tags []influx.Tag, key string) string {
	for i := range tags {
		if tags[i].Key == key {
			return tags[i].Value
		}
	}
	return ""
}

// within is what u has between two times.
func (u unwritten) within(from, to int64) unwritten {
	inside := unwritten{rows: rowsWithin(u.rows, from, to)}
	if len(inside.rows) == 0 {
		return unwritten{} // InfluxDB has none either
	}
	for _, r := range u.ranges {
		if r.From, r.To = max(r.From, from), min(r.To, to); r.From < r.To {
			inside.ranges = append(inside.ranges, r)
		}
	}
	return inside
}

func rowsWithin(rows []influx.WindowRow, from, to int64) []influx.WindowRow {
	at := func(t int64) int {
		i, _ := slices.BinarySearchFunc(rows, t, func(r influx.WindowRow, t int64) int { return cmp.Compare(r.Time, t) })
		return i
	}
	return rows[at(from):at(max(from, to))]
}

// part is a part of a history: from InfluxDB, or the rows that memory has.
type part struct {
	from, to int64
	rows     []influx.WindowRow // nil: from InfluxDB
}

// parts divides the time between from and to, oldest first. All of u lies within it.
func (u unwritten) parts(from, to int64) []part {
	var parts []part
	for _, r := range u.ranges {
		rows := rowsWithin(u.rows, r.From, r.To)
		if len(rows) == 0 {
			continue // InfluxDB has none either
		}
		if from < r.From {
			parts = append(parts, part{from: from, to: r.From})
		}
		parts = append(parts, part{r.From, r.To, rows})
		from = r.To
	}
	if from < to {
		parts = append(parts, part{from: from, to: to})
	}
	return parts
}

// columns computes the plan's columns of rows in memory.
func (p *plan) columns(rows []influx.WindowRow, q question) grouped[columns] {
	all, calls := make(grouped[columns]), make(map[string][]combiner)
	for i := range rows {
		r := &rows[i]
		group := groupOf(q.by, func(key string) string { return tagValue(r.Tags, key) })
		some := all[group]
		if at := floor.To(r.Time, int64(q.step)); len(some) == 0 || some[len(some)-1].time != at {
			p.end(some, calls[group])
			calls[group] = p.combiners()
			all[group] = append(some, columns{time: at})
		}
		for i, c := 0, calls[group]; i < len(c); i++ {
			c[i].add(sample{r.Time, p.value(r, i)})
		}
	}
	for group, some := range all {
		p.end(some, calls[group])
	}
	return all
}

func (p *plan) combiners() []combiner {
	calls := make([]combiner, len(p.calls))
	for i, c := range p.calls {
		calls[i].verb = verb(c.fn)
	}
	return calls
}

// end sets the values of the last slot.
func (p *plan) end(all []columns, calls []combiner) {
	for i := range calls {
		v, _ := calls[i].result() // of what is not finite the caller takes care
		last := &all[len(all)-1]
		last.values = append(last.values, v)
	}
}

// value returns the value of a row for a call of the plan.
func (p *plan) value(r *influx.WindowRow, i int) float64 {
	if p.scaled != nil {
		n := 1.0
		if p.scaled.counted {
			n = r.Count
		}
		return []float64{r.Mean * wide.Scale * n, n, r.Mean, r.Mean}[i]
	}
	switch p.calls[i].suffix {
	case influxnames.Count:
		return r.Count
	case influxnames.Sum:
		return r.Sum
	case influxnames.Min:
		return r.Min
	case influxnames.Max:
		return r.Max
	case influxnames.Last:
		return r.Last
	}
	return r.Mean
}

// join adds the columns of a later part. A slot may be in both.
func join(all, later []columns, calls []call) []columns {
	if n := len(all); n > 0 && len(later) > 0 && all[n-1].time == later[0].time {
		a, b := all[n-1].values, later[0].values
		for i, c := range calls {
			switch c.fn {
			case "sum":
				a[i] += b[i]
			case "min":
				a[i] = min(a[i], b[i])
			case "max":
				a[i] = max(a[i], b[i])
			case "last":
				a[i] = b[i]
			}
		}
		later = later[1:]
	}
	return append(all, later...)
}

// runMeans computes a verb over the windows' means. A median, say, of a slot cannot be joined from
// those of two parts. So InfluxDB is asked for the means themselves in the slots of which memory has
// a part.
func (s *Server) runMeans(ctx context.Context, q question, p plan, open unwritten) (grouped[slot], error) {
	var slots grouped[slot]
	add := func(some grouped[slot], err error) error {
		slots = slots.then(some)
		return err
	}
	from := q.from
	for len(open.rows) > 0 {
		begin := floor.To(open.rows[0].Time, int64(q.step))
		end := min(begin+int64(q.step), q.to)
		begin = max(begin, from)
		if from < begin {
			if err := add(s.run(ctx, q.between(from, begin), p, unwritten{})); err != nil {
				return nil, err
			}
		}
		if err := add(s.combineMeans(ctx, q.between(begin, end), open.within(begin, end))); err != nil {
			return nil, err
		}
		from = end
		open = open.within(end, q.to)
	}
	if from < q.to {
		if err := add(s.run(ctx, q.between(from, q.to), p, unwritten{})); err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// combineMeans computes the verb over the means of one slot.
func (s *Server) combineMeans(ctx context.Context, q question, open unwritten) (grouped[slot], error) {
	groups := make(map[string]*combiner)
	add := func(group string, m sample) {
		c := groups[group]
		if c == nil {
			c = &combiner{verb: q.verb}
			groups[group] = c
		}
		c.add(m)
	}
	for _, part := range open.parts(q.from, q.to) {
		for i := range part.rows {
			r := &part.rows[i]
			add(groupOf(q.by, func(key string) string { return tagValue(r.Tags, key) }), sample{r.Time, r.Mean})
		}
		if part.rows != nil {
			continue
		}
		each := q.between(part.from, part.to)
		each.step = 0
		st, err := each.statement([]call{{}})
		if err != nil {
			return nil, err
		}
		rows, err := s.askInflux(ctx, st.text, st.params)
		if err != nil {
			return nil, err
		}
		means, err := columnsOf(rows, 1, q.by)
		if err != nil {
			return nil, err
		}
		for group, some := range means {
			for _, m := range some {
				add(group, sample{m.time, m.values[0]})
			}
		}
	}
	slots := make(grouped[slot], len(groups))
	for group, c := range groups {
		if v, _ := c.result(); !math.IsNaN(v) { // NaN is of too few means, as InfluxDB has it
			slots[group] = []slot{{time: floor.To(q.from, int64(q.step)), value: v}}
		}
	}
	return slots, nil
}
