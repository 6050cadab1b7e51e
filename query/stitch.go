package query

import (
	"context"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/influxnames"
)

// The sources of the points of /range.
const (
	sourceRaw        = "raw"
	sourceAggregates = "aggregates"
)

// percentile returns the number of a percentile, 0 for other verbs.
func (v verb) percentile() int {
	switch v {
	case "p50":
		return 50
	case "p90":
		return 90
	case "p95":
		return 95
	case "p99":
		return 99
	}
	return 0
}

// rawPlan computes over the readings themselves.
func rawPlan(v verb) plan {
	p := plan{raw: true, calls: []call{{fn: string(v)}}, fold: func(c []float64) slot { return slot{value: c[0]} }}
	switch v {
	case "mean", "sum": // InfluxDB's mean of readings is exact, and takes half the time of sum and count
		p.wide = &widePlan{verb: v, raw: true}
	case "spread":
		p.calls = []call{{fn: "max"}, {fn: "min"}}
		p.fold = func(c []float64) slot { return slot{value: c[0] - c[1]} }
	case "stddev": // it is null for a single reading
		p.calls = []call{{fn: "count"}, {fn: "stddev"}}
		p.fold = func(c []float64) slot { return slot{value: c[1]} }
	}
	if n := v.percentile(); n > 0 {
		p.calls = []call{{fn: "percentile", of: n}}
	}
	return p
}

// stitched are the points of an answer: the readings' where they are used and kept, and the
// windows' elsewhere.
type stitched struct {
	points          grouped[slot] // in no order
	raw, aggregates bool          // what they come from
}

// stitch computes the slots of a span. Single readings are used where they are kept and a slot is
// no whole number of windows, because a window's values are in the slot in which it begins. Where
// there should be readings and are none for a whole window (the retention was raised, InfluxDB has
// lost or refused them), the windows are used too. So no point is made of both.
func (s *Server) stitch(ctx context.Context, name string, sel selection, span timeSpan, step time.Duration) (all stitched, err error) {
	if influxnames.IsCompanion(name) {
		return all, nil
	}
	seam := s.seam(sel, span, step)
	readings := newCoverage(seam, span.to, s.o.AggregateInterval)
	if seam < span.to {
		q := s.question(name, sel, seam, span.to, step)
		if all.points, err = s.run(ctx, q, rawPlan(sel.verb), unwritten{}); err != nil {
			return all, err
		}
		all.raw = len(all.points) > 0
		for _, slots := range all.points {
			for _, sl := range slots {
				readings.cover(sl.time, sl.time+int64(step))
			}
		}
	}
	if sel.verb.percentile() > 0 {
		return all, s.percentileReach(ctx, name, sel, readings)
	}
	rest := timeSpan{from: span.from, to: seam}
	if from, to, ok := readings.holes(); ok {
		if seam <= span.from {
			rest.from = floor.To(from, int64(step))
		}
		rest.to = min(span.to, floor.To(to+int64(step)-1, int64(step)))
	}
	if rest.from >= rest.to {
		return all, nil
	}
	rest.readFrom, rest.readTo = rest.from, rest.to
	windows, err := s.history(ctx, name, sel, rest, step)
	if err != nil {
		return all, err
	}
	all.add(windows, readings, step)
	return all, nil
}

// seam is the start of the first slot that is computed of readings.
func (s *Server) seam(sel selection, span timeSpan, step time.Duration) int64 {
	switch {
	case sel.verb.percentile() > 0:
		return span.from
	case step%s.o.AggregateInterval == 0:
		return span.to
	}
	kept := sel.now.Add(-s.o.RawRetention).UnixNano()
	for _, length := range []time.Duration{s.o.AggregateInterval, step} { // a whole window, then a whole slot
		kept = floor.To(kept+int64(length)-1, int64(length))
	}
	return min(max(kept, span.from), span.to)
}

// add adds the windows' slots: those before the seam, and those of windows that have no readings.
func (all *stitched) add(windows grouped[slot], readings *coverage, step time.Duration) {
	for group, slots := range windows {
		has := make(map[int64]bool)
		for _, sl := range all.points[group] {
			has[sl.time] = true
		}
		for _, sl := range slots {
			if sl.time >= readings.from && (has[sl.time] || !readings.bare(sl.time, sl.time+int64(step))) {
				continue
			}
			if all.points == nil {
				all.points = make(grouped[slot])
			}
			all.points[group] = append(all.points[group], sl)
			all.aggregates = true
		}
	}
}

// percentileReach returns an error if there are windows before the first reading: their readings are
// not kept any more, or not yet for as long as they should be.
func (s *Server) percentileReach(ctx context.Context, name string, sel selection, readings *coverage) error {
	// Whole windows only: the newest one may have its first readings before InfluxDB has them.
	to, length := readings.first(), int64(s.o.AggregateInterval)
	span := timeSpan{from: floor.To(readings.from+length-1, length), to: floor.To(min(to, sel.now.UnixNano()), length)}
	if span.from >= span.to {
		return nil
	}
	span.readFrom, span.readTo = span.from, span.to
	counted := sel
	counted.verb, counted.by = "count", nil
	windows, err := s.history(ctx, name, counted, span, s.o.AggregateInterval)
	if err != nil || len(windows) == 0 {
		return err
	}
	since := "there are none of them"
	if to < readings.to {
		since = "they begin at " + time.Unix(0, to).UTC().Format(time.RFC3339)
	}
	return badRequest("%s is computed of single readings of %s, and %s: use a later start, or a verb such as mean or max", sel.verb, name, since)
}

// coverage notes which windows of a stretch of time have readings.
type coverage struct {
	from, to int64 // [from, to)
	interval int64
	first0   int64 // the start of the first window
	has      []bool
}

func newCoverage(from, to int64, interval time.Duration) *coverage {
	c := &coverage{from: from, to: to, interval: int64(interval), first0: floor.To(from, int64(interval))}
	if from < to {
		c.has = make([]bool, (to-c.first0+c.interval-1)/c.interval)
	}
	return c
}

// cover notes that there are readings between two times.
func (c *coverage) cover(from, to int64) {
	for i := max(0, (from-c.first0)/c.interval); i < int64(len(c.has)) && c.first0+i*c.interval < to; i++ {
		c.has[i] = true
	}
}

// bare reports whether no window that begins between two times has readings.
func (c *coverage) bare(from, to int64) bool {
	i := max(0, (from-c.first0+c.interval-1)/c.interval)
	for ; i < int64(len(c.has)) && c.first0+i*c.interval < to; i++ {
		if c.has[i] {
			return false
		}
	}
	return true
}

// holes returns the start of the first window without readings, and the end of the last.
func (c *coverage) holes() (from, to int64, ok bool) {
	for i, has := range c.has {
		if has {
			continue
		}
		if !ok {
			from, ok = max(c.from, c.first0+int64(i)*c.interval), true
		}
		to = min(c.to, c.first0+int64(i+1)*c.interval)
	}
	return from, to, ok
}

// first is the start of the first window that has readings, and the end of all if none has.
func (c *coverage) first() int64 {
	for i, has := range c.has {
		if has {
			return max(c.from, c.first0+int64(i)*c.interval)
		}
	}
	return c.to
}
