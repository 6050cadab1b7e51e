package query

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
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
