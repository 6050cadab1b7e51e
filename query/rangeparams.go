package query

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/tagfilter"
)

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
	if tagfilter.Reserved(name) {
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
		if tagfilter.Reserved(key) {
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
