package query

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/projector/latest"
)

// maxPoints is how many points an answer may have, those without a value included.
const maxPoints = 1_000_000

// rangeOf answers with the slots of any length of any range, by groups of tags. A slot without
// readings is null.
func (s *Server) rangeOf(w http.ResponseWriter, r *http.Request, p params) error {
	name := p.get("stat")
	sel, err := s.rangeSelection(name, r.URL.RawQuery)
	if err != nil {
		return err
	}
	step := sel.step
	if step == 0 {
		step = s.defaultStep(sel)
	}
	span := wholeSlots(sel, step)
	points := (span.to - span.from) / int64(step)
	if points > maxPoints {
		return errTooManyPoints(1, points)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.o.QueryTimeout)
	defer cancel()
	if err := s.checkSeries(ctx, name, sel, span, points); err != nil {
		return err
	}
	all, err := s.stitch(ctx, name, sel, span, step)
	if err != nil {
		return err
	}
	if err := checkSize(sel, len(all.points), points); err != nil {
		return err
	}
	if err := s.checkKnown(ctx, name, sel, all.points); err != nil {
		return err
	}
	body, err := rangeJSON(name, sel, span, step, all)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // fails only when the client is gone
	return nil
}

// checkSize returns an error for more series, or more points, than an answer may have.
func checkSize(sel selection, series int, points int64) error {
	if series > maxSeries {
		return errTooManySeries(sel.by)
	}
	if int64(series)*points > maxPoints {
		return errTooManyPoints(series, points)
	}
	return nil
}

// checkSeries refuses what is too large before its points are computed. A series whose newest
// reading is in the range certainly is in the answer. If there are many others, their windows are
// counted.
func (s *Server) checkSeries(ctx context.Context, name string, sel selection, span timeSpan, points int64) error {
	if len(sel.by) == 0 {
		return nil
	}
	certain, possible := make(map[string]struct{}), make(map[string]struct{})
	s.o.Latest.Select(name, sel.filters.byKey(), 0, func(r latest.Reading) {
		within := r.Time >= span.from && r.Time < span.to
		if len(certain) > maxSeries || !within && len(possible) > maxSeries {
			return
		}
		group := groupOf(sel.by, func(key string) string {
			if i := slices.IndexFunc(r.Tags, func(t latest.Tag) bool { return t.Key == key }); i >= 0 {
				return s.o.Stored(r.Tags[i].Value)
			}
			return ""
		})
		if possible[group] = struct{}{}; within {
			certain[group] = struct{}{}
		}
	})
	if err := checkSize(sel, len(certain), points); err != nil || checkSize(sel, len(possible), points) == nil {
		return err
	}
	counted := sel
	counted.verb = "count"
	found, err := s.history(ctx, name, counted, span, time.Duration(span.to-span.from))
	if err != nil {
		return err
	}
	return checkSize(sel, len(found), points)
}

// checkKnown returns the 404 of a question about a stat or a tag that no reading has. Names are
// looked up only where an answer hints at it: it is empty, or no series has the tag.
func (s *Server) checkKnown(ctx context.Context, name string, sel selection, found grouped[slot]) error {
	var doubted []string
	if len(found) == 0 {
		for _, f := range sel.filters {
			doubted = append(doubted, f.key)
		}
	}
	for i, key := range sel.by {
		has := false
		for group := range found {
			has = has || groupValues(sel.by, group)[i] != ""
		}
		if !has && !slices.Contains(doubted, key) {
			doubted = append(doubted, key)
		}
	}
	if len(found) > 0 && len(doubted) == 0 {
		return nil
	}
	known := s.newSeen(ctx)
	if ok, like := known.hasStat(name); len(found) == 0 && !ok {
		return s.nothing("no reading of %q is known%s", name, meant(name, like))
	}
	for _, key := range doubted {
		if ok, like := known.hasKey(key); !ok {
			return s.nothing("no reading is known that has the tag %q%s", key, meant(key, slices.Concat(like, rangeParameters())))
		}
	}
	if len(found) > 0 {
		return nil
	}
	for _, f := range sel.filters {
		for _, v := range f.values {
			if v == "" {
				continue // a series without the tag
			}
			if ok, like := known.hasTag(name, f.key, v); !ok {
				return s.nothing("no reading of %q is known that has the tag %q%s", name, f.key+":"+v, meant(v, like))
			}
		}
	}
	return nil
}

// rangeJSON encodes an answer. It is written by hand, because it may hold a million points.
func rangeJSON(name string, sel selection, span timeSpan, step time.Duration, all stitched) ([]byte, error) {
	head := struct {
		Stat   string   `json:"stat"`
		Step   int64    `json:"step"`
		Source []string `json:"source"`
	}{Stat: name, Step: int64(step / time.Second), Source: []string{}}
	if all.raw {
		head.Source = append(head.Source, sourceRaw)
	}
	if all.aggregates {
		head.Source = append(head.Source, sourceAggregates)
	}
	text, err := apijson.Marshal(head)
	if err != nil {
		return nil, err
	}
	points := int((span.to - span.from) / int64(step))
	b := make([]byte, 0, len(text)+len(all.points)*points*24+64)
	b = append(b, text[:len(text)-1]...)
	b = append(b, `,"series":[`...)
	values := make([]float64, points)
	for i, group := range sortedGroups(sel.by, all.points) {
		tags := make(map[string]string, len(sel.by))
		for k, v := range groupValues(sel.by, group) {
			tags[sel.by[k]] = v
		}
		text, err := apijson.Marshal(tags)
		if err != nil {
			return nil, err
		}
		for k := range values {
			values[k] = math.NaN()
		}
		for _, sl := range all.points[group] {
			if k := (sl.time - span.from) / int64(step); k >= 0 && k < int64(points) {
				values[k] = sl.value
			}
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"tags":`...)
		b = append(b, text...)
		b = append(b, `,"points":[`...)
		b = appendPoints(b, span.from/int64(time.Second), int64(step/time.Second), values)
		b = append(b, "]}"...)
	}
	return append(b, "]}\n"...), nil
}

// sortedGroups orders the groups by their values, the first tag first.
func sortedGroups(by []string, all grouped[slot]) []string {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(groupValues(by, a), groupValues(by, b)) })
	return names
}

// appendPoints appends [time,value] for each value; what is no number is null.
func appendPoints(b []byte, at, step int64, values []float64) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendInt(b, at+int64(i)*step, 10)
		b = append(b, ',')
		if finite(v) {
			b = appendNumber(b, v)
		} else {
			b = append(b, "null"...)
		}
		b = append(b, ']')
	}
	return b
}

// appendNumber appends the shortest text that reads as v, as encoding/json does.
func appendNumber(b []byte, v float64) []byte {
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	n := len(b)
	b = strconv.AppendFloat(b, v, format, -1, 64)
	if format == 'e' { // e-09 becomes e-9
		if end := len(b); end-n >= 4 && b[end-4] == 'e' && b[end-3] == '-' && b[end-2] == '0' {
			b[end-2] = b[end-1]
			b = b[:end-1]
		}
	}
	return b
}

// wholeSlots goes from the start of the slot that start falls into to the end of the one that stop
// falls into. So a slot's value never depends on when it is asked for.
func wholeSlots(sel selection, step time.Duration) timeSpan {
	start, stop := sel.now.Add(-sel.start).UnixNano(), sel.now.Add(-sel.stop).UnixNano()
	span := timeSpan{from: floor.To(start, int64(step)), to: floor.To(stop+int64(step)-1, int64(step))}
	span.readFrom, span.readTo = span.from, span.to
	return span
}

// rangeSelection reads the stat's name and the query parameters of /range.
func (s *Server) rangeSelection(name, rawQuery string) (selection, error) {
	if err := checkName("the stat", name); err != nil {
		return selection{}, err
	}
	if reservedName(name) {
		return selection{}, badRequest("%s has no history: InfluxDB reserves the name", name)
	}
	sel, err := parseRange(rawQuery, s.o.Now(), s.o.Location)
	if err == nil && sel.verb.percentile() > 0 && sel.start > s.o.RawRetention {
		err = badRequest("%s is computed of single readings, which are kept for %s (--raw-retention), and start is %s ago: use a later start, or a verb such as mean or max",
			sel.verb, ago(s.o.RawRetention), ago(sel.start))
	}
	return sel, err
}

// defaultStep gives an answer of up to 500 points in slots that people use. Slots are not shorter
// than the time between two polls, or than a window where windows are needed.
func (s *Server) defaultStep(sel selection) time.Duration {
	least := max((sel.start-sel.stop)/500, s.o.PollInterval)
	unit := time.Second
	if sel.start > s.o.RawRetention {
		unit = s.o.AggregateInterval
	}
	const day = 24 * time.Hour
	for _, step := range []time.Duration{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600} {
		if step *= time.Second; step >= least && step%unit == 0 {
			return step
		}
	}
	return time.Duration(math.Ceil(float64(least)/float64(day))) * day // whole windows too: they divide a day
}

// rangeParameters are those of /range that are no filters.
func rangeParameters() []string { return []string{"verb", "start", "stop", "step", "by"} }

// parseRange reads the query parameters of /range.
func parseRange(rawQuery string, now time.Time, loc *time.Location) (selection, error) {
	sel := selection{verb: "mean", now: now, start: hoursDefault}
	values, err := parseQuery(rawQuery)
	if err != nil {
		return sel, err
	}
	back := func(name, v string, def time.Duration) (time.Duration, error) {
		if seconds, err := strconv.ParseInt(v, 10, 40); err == nil && seconds > 0 {
			v = time.Unix(seconds, 0).UTC().Format(time.RFC3339) // since 1970, as the answer has its times
		}
		return parseBack(name, v, def, now, loc)
	}
	return sel, sel.take(values, map[string]func(string) error{
		"verb":                     func(v string) (err error) { sel.verb, err = parseVerb(v, "p50", "p90", "p95", "p99"); return err },
		"start":                    func(v string) (err error) { sel.start, err = back("start", v, hoursDefault); return err },
		"stop":                     func(v string) (err error) { sel.stop, err = back("stop", v, 0); return err },
		"step":                     func(v string) (err error) { sel.step, err = parseStep(v); return err },
		"by":                       func(v string) (err error) { sel.by, err = parseBy(v); return err },
		tokenName:                  func(string) error { return nil },
		strings.ToLower(tokenName): func(string) error { return nil },
	})
}

// parseStep reads the length of a slot: a duration, or whole seconds.
func parseStep(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	unit := text
	if strings.Trim(text, "0123456789") == "" {
		unit += "s"
	}
	step, err := duration.Parse(unit, maxBack)
	if err != nil || !duration.Whole(step, time.Second, maxBack) {
		return 0, badRequest("step %q: use whole seconds, like 10s, 5m or 1d, from 1s to %s", shorten(text, 40), ago(maxBack))
	}
	return step, nil
}

// parseBy reads the tags to group by.
func parseBy(text string) (by []string, err error) {
	if text == "" {
		return nil, nil
	}
	for key := range strings.SplitSeq(text, ",") {
		if err := checkName("a tag of by", key); err != nil {
			return nil, err
		}
		if reservedName(key) {
			return nil, badRequest("nothing can be grouped by %s: InfluxDB reserves the name", key)
		}
		if slices.Contains(by, key) {
			return nil, badRequest("by has %s twice", key)
		}
		if by = append(by, key); len(by) > maxFilterKeys {
			return nil, badRequest("by has more than %d tags", maxFilterKeys)
		}
	}
	return by, nil
}
