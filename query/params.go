package query

import (
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/tagfilter"
)

// Bounds of what one request may ask.
const (
	maxNameBytes    = tagfilter.MaxKey   // of a stat and of a filter's key
	maxValueBytes   = tagfilter.MaxValue // of a filter's value
	maxFilterKeys   = 32
	maxFilterValues = 1024               // of all filters together
	maxBack         = duration.MaxGiven  // start, stop and step
	daysDefault     = 7 * 24 * time.Hour // how far back /daily starts
	hoursDefault    = 24 * time.Hour     // how far back /hourly starts
)

// selection is what the query parameters of /latest, /hourly and /daily ask for.
type selection struct {
	verb    verb
	filters filters

	// The rest is for /hourly, /daily and /range.
	now         time.Time     // when it was asked
	start, stop time.Duration // how far back from now
	fill        bool
	fillValue   float64

	means bool // over the windows' means, whatever the verb, as 0.2 did

	by   []string      // for /range: the tags to group by
	step time.Duration // for /range: the length of a slot; 0 if none was given
}

// filter is one tag and the values that it may have.
type filter struct {
	key    string
	values []string // distinct, in the order given
	given  int      // how many values were given, for verb=none
}

// filters are sorted by key, so that the same question is always the same statement.
type filters []filter

// byKey is the form that Latest takes.
func (f filters) byKey() map[string][]string {
	if len(f) == 0 {
		return nil
	}
	m := make(map[string][]string, len(f))
	for _, one := range f {
		m[one.key] = one.values
	}
	return m
}

// spelled is f with other spellings of its keys and values.
func (f filters) spelled(as func(string) string) filters {
	out := make(filters, len(f))
	for i, one := range f {
		values := make([]string, len(one.values))
		for j, v := range one.values {
			values[j] = as(v)
		}
		out[i] = filter{key: as(one.key), values: values, given: one.given}
	}
	return out
}

// parseSelection reads the query parameters. history is the default of start, or 0 for /latest,
// where backfill, start and stop are ordinary filters. now and loc are for the times in the
// parameters.
func parseSelection(rawQuery string, history time.Duration, now time.Time, loc *time.Location) (selection, error) {
	sel := selection{verb: "mean", now: now, start: history}
	values, err := parseQuery(rawQuery)
	if err != nil {
		return sel, err
	}
	var more []verb
	if history == 0 {
		more = append(more, verbNone)
	}
	reserved := map[string]func(string) error{
		"verb":    func(v string) (err error) { sel.verb, err = parseVerb(v, more...); return err },
		tokenName: func(string) error { return nil },
		// 0.2 made no filter of this name, though it took no token from it.
		strings.ToLower(tokenName): func(string) error { return nil },
	}
	if history != 0 {
		reserved["start"] = func(v string) (err error) { sel.start, err = parseBack("start", v, history, now, loc); return err }
		reserved["stop"] = func(v string) (err error) { sel.stop, err = parseBack("stop", v, 0, now, loc); return err }
		reserved["backfill"] = func(v string) error { sel.fill, sel.fillValue = parseFill(v); return nil }
	}
	return sel, sel.take(values, reserved)
}

func parseQuery(rawQuery string) (url.Values, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, badRequest("the query string is malformed: %v", err)
	}
	return values, nil
}

// take reads the reserved parameters; the others are filters. A start that is no time before stop is
// refused.
func (sel *selection) take(values url.Values, reserved map[string]func(string) error) (err error) {
	for _, key := range slices.Sorted(maps.Keys(values)) { // sorted, so that of several mistakes the same one is reported
		set, ok := reserved[key]
		if !ok {
			continue
		}
		vs := values[key]
		if len(vs) > 1 {
			return badRequest("%s is given %d times: give it once", key, len(vs))
		}
		if err := set(vs[0]); err != nil {
			return err
		}
		delete(values, key)
	}
	if reserved["start"] != nil && sel.stop >= sel.start {
		return badRequest("stop must be less far back than start (start=%s, stop=%s)", ago(sel.start), ago(sel.stop))
	}
	sel.filters, err = parseFilters(values)
	return err
}

func parseFilters(values url.Values) (filters, error) {
	if len(values) > maxFilterKeys {
		return nil, badRequest("%d different filters: at most %d are allowed", len(values), maxFilterKeys)
	}
	var fs filters
	total := 0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		vs := values[key]
		if err := checkName("the filter", key); err != nil {
			return nil, err
		}
		if tagfilter.Reserved(key) {
			return nil, badRequest("%s cannot be a filter: InfluxDB reserves the name (for times use start and stop)", key)
		}
		if total += len(vs); total > maxFilterValues {
			return nil, badRequest("more than %d filter values", maxFilterValues)
		}
		f := filter{key: key, given: len(vs)}
		for _, v := range vs {
			if len(v) > maxValueBytes {
				return nil, badRequest("a value of filter %s has %d bytes: at most %d are allowed", key, len(v), maxValueBytes)
			}
			if !tagfilter.Printable(v) {
				return nil, badRequest("a value of filter %s holds control characters or is not UTF-8", key)
			}
			if !slices.Contains(f.values, v) {
				f.values = append(f.values, v)
			}
		}
		fs = append(fs, f)
	}
	return fs, nil
}

// checkName holds for names of stats and of tags.
func checkName(what, name string) error {
	switch {
	case name == "":
		return badRequest("%s has no name", what)
	case len(name) > maxNameBytes:
		return badRequest("the name of %s has %d bytes: at most %d are allowed", what, len(name), maxNameBytes)
	case !tagfilter.Printable(name):
		return badRequest("the name of %s holds control characters or is not UTF-8", what)
	}
	return nil
}

// parseFill reads backfill: any value fills, with that number, or with 0 when the value is no
// number.
func parseFill(v string) (fill bool, value float64) {
	if v == "" {
		return false, 0
	}
	value, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		value = 0
	}
	return true, value
}

// ago is a duration as the API takes it: 1w, 90m. It is rounded, because how far back a point in
// time is has a fraction that nobody gave.
func ago(d time.Duration) string {
	if d > time.Minute {
		d = d.Round(time.Second)
	}
	return influxql.FormatDuration(d)
}
