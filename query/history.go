package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/influxnames"
)

// slot is one hour, or one window, of the history.
type slot struct {
	time int64 // its start, ns
	// value is not finite where a float64 does not hold it. Such a slot is not in the answer, but no
	// other value may take its place.
	value float64
	// sum/weight is the value over all of its readings, for exact means of several slots. weight is 0
	// when the number of readings is not known (rows of Pulse 0.2) or means nothing (verbs other than
	// mean).
	sum, weight float64
}

// hourly answers with the hours of UTC, oldest first, from the one that start falls into to the one
// that stop falls into.
func (s *Server) hourly(w http.ResponseWriter, r *http.Request, p params) error {
	name, sel, err := s.selection(r, p, hoursDefault)
	if err != nil {
		return err
	}
	span := s.span(sel, time.Hour)
	groups, err := s.history(r.Context(), name, sel, span, time.Hour)
	if err != nil {
		return err
	}
	slots := groups[oneGroup]
	if len(slots) == 0 && (!sel.fill || s.o.Compat == Compat02) {
		return s.nothingOf(name, sel, true, "no hour of %s matches between %s and %s ago", name, ago(sel.start), ago(sel.stop))
	}
	if sel.fill {
		slots = backfill(slots, span, time.Hour, sel.fillValue)
	}
	answer := make([]stat, 0, len(slots))
	for _, sl := range slots {
		if finite(sl.value) {
			answer = append(answer, stat{s.unix(sl.time), sl.value})
		}
	}
	if len(answer) == 0 && len(slots) > 0 {
		return s.tooLarge(name, sel.verb)
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

// tooLarge is the answer where slots have readings and none has a value that a float64 holds.
func (s *Server) tooLarge(name string, v verb) error {
	return s.nothing("the %s of %s is more than a number can hold", v, name)
}

// timeSpan is the time that a selection covers, in ns since 1970.
type timeSpan struct {
	from, to int64 // whole slots: the first one's start and the last one's end
	// What is read of the slots: all of it. 0.2 cut the first and the last slot where start and stop
	// happened to fall.
	readFrom, readTo int64
}

// span goes from the start of the slot that start falls into to the end of the one that stop falls
// into. So a slot's value never depends on when it is asked for.
func (s *Server) span(sel selection, step time.Duration) timeSpan {
	start, stop := sel.now.Add(-sel.start).UnixNano(), sel.now.Add(-sel.stop).UnixNano()
	span := timeSpan{from: floor.To(start, int64(step)), to: floor.To(stop+int64(step)-1, int64(step))}
	span.readFrom, span.readTo = span.from, span.to
	if s.o.Compat == Compat02 {
		span.readFrom, span.readTo = start+1, stop // later than start, earlier than stop
	}
	return span
}

// backfill adds slots with the value where none is.
func backfill(slots []slot, span timeSpan, step time.Duration, value float64) []slot {
	full := make([]slot, 0, (span.to-span.from)/int64(step)+1)
	for t := span.from; t < span.to; t += int64(step) {
		if len(slots) > 0 && slots[0].time == t {
			full = append(full, slots[0])
			slots = slots[1:]
			continue
		}
		full = append(full, slot{time: t, value: value})
	}
	return full
}

// plan is how a verb is computed from the aggregates' fields, slot by slot.
type plan struct {
	calls []call
	fold  func(columns []float64) slot // columns in the order of calls; time is set by the caller
	wide  *widePlan                    // for sums that are more than a float64 holds; nil where there are none

	scaled *widePlan // the plan is that of this widePlan
	raw    bool      // of the readings, not of the windows
}

// exactPlan computes over the readings themselves where the aggregates allow it: mean, sum, count,
// min, max, spread and, for one series, last. The other verbs are over the windows' means.
func exactPlan(v verb) plan {
	plain := func(c []float64) slot { return slot{value: c[0]} }
	switch v {
	case "mean":
		return plan{calls: []call{{fn: "sum", suffix: influxnames.Sum}, {fn: "sum", suffix: influxnames.Count}}, fold: func(c []float64) slot {
			return slot{value: c[0] / c[1], sum: c[0], weight: c[1]}
		}, wide: &widePlan{verb: v, counted: true}}
	case "sum":
		return plan{calls: []call{{fn: "sum", suffix: influxnames.Sum}}, fold: plain, wide: &widePlan{verb: v, counted: true}}
	case "count":
		return plan{calls: []call{{fn: "sum", suffix: influxnames.Count}}, fold: plain}
	case "min":
		return plan{calls: []call{{fn: "min", suffix: influxnames.Min}}, fold: plain}
	case "max":
		return plan{calls: []call{{fn: "max", suffix: influxnames.Max}}, fold: plain}
	case "last":
		return plan{calls: []call{{fn: "last", suffix: influxnames.Last}}, fold: plain}
	case "spread":
		return plan{calls: []call{{fn: "max", suffix: influxnames.Max}, {fn: "min", suffix: influxnames.Min}}, fold: func(c []float64) slot {
			return slot{value: c[0] - c[1]}
		}}
	}
	return meansPlan(v)
}

// meansPlan computes over the windows' means, which is all that rows of Pulse 0.2 have.
func meansPlan(v verb) plan {
	p := plan{calls: []call{{fn: string(v)}}, fold: func(c []float64) slot { return slot{value: c[0]} }}
	if v == "mean" || v == "sum" {
		p.wide = &widePlan{verb: v}
	}
	return p
}

// question is what InfluxDB is asked about a selection.
func (s *Server) question(name string, sel selection, from, to int64, step time.Duration) question {
	q := question{stat: name, verb: sel.verb, filters: sel.filters.spelled(s.o.Stored), from: from, to: to, step: step,
		stored: s.o.Stored, measurement: s.o.StoredMeasurement}
	for _, key := range sel.by {
		q.by = append(q.by, s.o.Stored(key))
	}
	return q
}

// history returns the slots of each group that have readings, in order.
func (s *Server) history(ctx context.Context, name string, sel selection, span timeSpan, step time.Duration) (grouped[slot], error) {
	if influxnames.IsCompanion(name) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.QueryTimeout)
	defer cancel()
	q := s.question(name, sel, span.readFrom, span.readTo, step)
	open := s.unwritten(q)
	exact, means := exactPlan(sel.verb), meansPlan(sel.verb)
	if sel.means || exact.calls[0].suffix == "" {
		return s.run(ctx, q, means, open)
	}
	split := q.from
	if sel.verb == "mean" {
		// Nobody knows how many readings the rows of Pulse 0.2 are of. Slots with such rows weigh their
		// windows equally.
		split = min(max(q.from, floor.To(s.o.MeansUntil()+int64(step)-1, int64(step))), q.to)
	}
	var slots grouped[slot]
	if split < q.to {
		var err error
		if slots, err = s.run(ctx, q.between(split, q.to), exact, open); err != nil {
			return nil, err
		}
	}
	// Rows of 0.2 that were not taken over have no counts. They are older than any row of ours, so
	// they can only be before the first slot found.
	end := q.to
	for _, group := range slots {
		end = min(end, group[0].time)
	}
	if end <= q.from {
		return slots, nil
	}
	old, err := s.run(ctx, q.between(q.from, end), means, open)
	if err != nil {
		return nil, err
	}
	return old.then(slots), nil
}

// run computes one plan, of the rows in InfluxDB and those in memory.
func (s *Server) run(ctx context.Context, q question, p plan, open unwritten) (grouped[slot], error) {
	if open = open.within(q.from, q.to); len(open.rows) > 0 && p.calls[0].suffix == "" {
		return s.runMeans(ctx, q, p, open)
	}
	parts := open.parts(q.from, q.to)
	all, over, err := s.columns(ctx, q, p, parts)
	if over && p.wide != nil {
		p = p.wide.plan()
		all, over, err = s.columns(ctx, q, p, parts)
	}
	if over {
		return nil, s.tooLarge(q.stat, q.verb)
	}
	if err != nil {
		return nil, err
	}
	slots := make(grouped[slot], len(all))
	for group, some := range all {
		folded := make([]slot, len(some))
		for i, c := range some {
			folded[i] = p.fold(c.values)
			folded[i].time = c.time
		}
		slots[group] = folded
	}
	return slots, nil
}

// columns are the values of a plan's calls for one slot.
type columns struct {
	time   int64
	values []float64
}

// columns asks for the columns of a plan, slot by slot. over reports that a number is more than a
// float64 holds.
func (s *Server) columns(ctx context.Context, q question, p plan, parts []part) (all grouped[columns], over bool, err error) {
	all = make(grouped[columns])
	for _, part := range parts {
		var some grouped[columns]
		if part.rows != nil {
			some = p.columns(part.rows, q)
		} else {
			st, err := p.statement(q.between(part.from, part.to))
			if err != nil {
				return nil, false, err
			}
			rows, err := s.askInflux(ctx, st.text, st.params)
			if notFinite(err) || err == nil && p.wide != nil && overflows(rows) {
				return nil, true, nil
			}
			if err != nil {
				return nil, false, err
			}
			if some, err = columnsOf(rows, len(p.calls), q.by); err != nil {
				return nil, false, err
			}
		}
		for group, later := range some {
			all[group] = join(all[group], later, p.calls)
		}
		if len(all) > maxSeries {
			return nil, false, errTooManySeries(q.by)
		}
	}
	if p.wide != nil {
		for _, group := range all {
			for _, c := range group {
				over = over || slices.ContainsFunc(c.values, func(v float64) bool { return !(math.Abs(v) < leastCut) })
			}
		}
	}
	return all, over, nil
}

// statement returns the plan's statement.
func (p *plan) statement(q question) (statement, error) {
	q.raw = p.raw
	if p.scaled != nil {
		return q.wideStatement(*p.scaled)
	}
	return q.statement(p.calls)
}

// columnsOf reads the columns of InfluxDB's rows; a slot whose first column
// has no value is left out.
func columnsOf(rows []models.Row, n int, by []string) (grouped[columns], error) {
	all := make(grouped[columns], len(rows))
	for _, row := range rows { // one for each group
		some := make([]columns, 0, len(row.Values))
		cells := make([]float64, n*len(row.Values))
		for _, v := range row.Values {
			if len(v) != 1+n {
				return nil, fmt.Errorf("query: InfluxDB answered %d columns for %d", len(v), 1+n)
			}
			t, ok := number(v[0])
			if !ok {
				return nil, fmt.Errorf("query: InfluxDB answered %T as a time", v[0])
			}
			values := cells[:n:n]
			cells = cells[n:]
			for i := range values {
				n, ok := number(v[1+i])
				if values[i] = n.float(); !ok {
					values[i] = math.NaN()
				}
			}
			if !math.IsNaN(values[0]) {
				some = append(some, columns{t.int(), values})
			}
		}
		if len(some) == 0 {
			continue
		}
		group := groupOf(by, func(key string) string { return row.Tags[key] })
		if all[group] = append(all[group], some...); len(all) > maxSeries {
			return nil, errTooManySeries(by)
		}
	}
	return all, nil
}

// num is a number as InfluxDB's clients give it: an integer stays one, so that times keep their ns.
type num struct {
	i     int64
	f     float64
	isInt bool
}

func (n num) int() int64 {
	if n.isInt {
		return n.i
	}
	return int64(n.f)
}

func (n num) float() float64 {
	if n.isInt {
		return float64(n.i)
	}
	return n.f
}

func number(v any) (num, bool) {
	switch v := v.(type) {
	case float64:
		return num{f: v}, !math.IsNaN(v)
	case int64:
		return num{i: v, isInt: true}, true
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return num{i: i, isInt: true}, true
		}
		f, err := v.Float64()
		return num{f: f}, err == nil
	}
	return num{}, false
}

// askInflux runs a statement when its turn comes. A failure becomes an *httpError.
func (s *Server) askInflux(ctx context.Context, text string, args map[string]any) ([]models.Row, error) {
	if err := s.takeTurn(ctx); err != nil {
		return nil, err
	}
	s.metrics.history.Inc()
	defer func() {
		s.metrics.history.Dec()
		<-s.turns
	}()
	rows, err := s.o.Influx.Query(ctx, text, args)
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return rows, nil
	case notFinite(err):
		return nil, err // it did answer
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, errGivenUp(err)
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		s.metrics.influxErrors.WithLabelValues(whyTimeout).Inc()
		return nil, &httpError{status: http.StatusGatewayTimeout, err: err,
			text: "InfluxDB did not answer in time: ask for less time or fewer series, or try again later"}
	}
	s.metrics.influxErrors.WithLabelValues(whyUnavailable).Inc()
	return nil, &httpError{status: http.StatusServiceUnavailable, err: err,
		text: "history is unavailable: InfluxDB did not answer (readings are kept in the journal and filled in later): " + shorten(err.Error(), 300)}
}

// takeTurn waits for one of the places that history queries have, but not for long.
func (s *Server) takeTurn(ctx context.Context) error {
	select {
	case s.turns <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(queueTimeout)
	defer wait.Stop()
	select {
	case s.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return errGivenUp(ctx.Err())
		}
	case <-wait.C:
	}
	s.metrics.influxErrors.WithLabelValues(whyBusy).Inc()
	return &httpError{status: http.StatusServiceUnavailable, err: ctx.Err(),
		text: fmt.Sprintf("history is busy: %d queries are under way, try again later", cap(s.turns))}
}

// errGivenUp is for a client that is gone, or a server that stops. Nobody reads the answer, but the
// metrics show it under a code of its own (nginx's), which is no failure.
func errGivenUp(err error) error {
	return &httpError{status: 499, text: "the request was given up", err: err}
}
