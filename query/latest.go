package query

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/internal/tagfilter"
	"github.com/nanopack/pulse/projector/latest"
)

// stat is the stat object of the API: a time in seconds (milliseconds in compat) and a value.
type stat struct {
	Time  int64   `json:"time"`
	Value float64 `json:"value"`
}

// unix is a time in ns as the API shows it. 0.2 showed milliseconds, of whole seconds.
func (s *Server) unix(ns int64) int64 {
	sec := floor.Div(ns, int64(time.Second))
	if s.o.Compat == Compat02 {
		return sec * 1000
	}
	return sec
}

// latest answers with the newest reading of each series that matches, combined.
func (s *Server) latest(w http.ResponseWriter, r *http.Request, p params) error {
	name, sel, err := s.selection(r, p, 0)
	if err != nil {
		return err
	}
	back := 2 * s.o.PollInterval
	since := s.o.Now().Add(-back).UnixNano()
	if sel.verb == verbNone && s.o.Compat == Compat02 {
		return s.latestEach02(w, name, sel, since)
	}
	if sel.verb == verbNone {
		return s.latestEach(w, name, sel, since)
	}
	c := combiner{verb: sel.verb}
	s.o.Latest.Select(name, sel.filters.byKey(), since, func(r latest.Reading) {
		c.add(sample{r.Time, r.Value})
	})
	v, ok := c.result()
	switch {
	case c.n == 0:
		return s.nothingOf(name, sel, false, "no reading of %s matches in the last %s", name, ago(back))
	case !ok && sel.verb == "stddev" && c.n == 1:
		return s.nothing("stddev needs two series of %s, one matches", name)
	case !ok:
		return s.nothing("the %s of %s is more than a number can hold", sel.verb, name)
	}
	at := c.last.time
	if s.o.Compat == Compat02 {
		at = s.latestTime02(at)
	}
	s.writeJSON(w, http.StatusOK, stat{s.unix(at), v})
	return nil
}

// latestEach answers with the readings as they are, with the tags that were given more than once,
// or, when there is none, with all of their tags.
func (s *Server) latestEach(w http.ResponseWriter, name string, sel selection, since int64) error {
	several := func(key string) bool {
		return slices.ContainsFunc(sel.filters, func(f filter) bool { return f.given > 1 && f.key == key })
	}
	anyTwice := slices.ContainsFunc(sel.filters, func(f filter) bool { return f.given > 1 })
	type entry struct {
		order string
		json  map[string]any
	}
	var found []entry
	s.o.Latest.Select(name, sel.filters.byKey(), since, func(r latest.Reading) {
		e := entry{json: make(map[string]any, 2+len(r.Tags))}
		var order strings.Builder
		for _, t := range r.Tags {
			if anyTwice && !several(t.Key) {
				continue
			}
			e.json[t.Key] = t.Value
			fmt.Fprintf(&order, "%s\x00%s\x00", t.Key, t.Value)
		}
		// A tag of these names would hide what the answer is about.
		e.json["time"], e.json["value"] = s.unix(r.Time), r.Value
		fmt.Fprintf(&order, "%020d%g", r.Time, r.Value)
		e.order = order.String()
		found = append(found, e)
	})
	if len(found) == 0 {
		return s.nothingOf(name, sel, false, "no reading of %s matches in the last %s", name, ago(2*s.o.PollInterval))
	}
	slices.SortFunc(found, func(a, b entry) int { return strings.Compare(a.order, b.order) })
	answer := make([]map[string]any, len(found))
	for i, e := range found {
		answer[i] = e.json
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

// selection reads the stat's name and the query parameters. history as in parseSelection.
func (s *Server) selection(r *http.Request, p params, history time.Duration) (string, selection, error) {
	name := p.get("stat")
	err := checkName("the stat", name)
	if err == nil && history != 0 && tagfilter.Reserved(name) {
		err = badRequest("%s has no history: InfluxDB reserves the name", name)
	}
	var sel selection
	rawQuery := r.URL.RawQuery
	if s.o.Compat == Compat02 {
		rawQuery = query02(rawQuery, history != 0)
	}
	if err == nil {
		loc := s.o.Location
		if s.o.Compat == Compat02 {
			loc = nil
		}
		sel, err = parseSelection(rawQuery, history, s.o.Now(), loc)
		sel.means = s.o.Compat == Compat02
	}
	if err != nil && s.o.Compat == Compat02 {
		err = errNotFound02() // 0.2 had one answer to all errors of InfluxDB
	}
	return name, sel, err
}

// nothing is the 404 of a question whose answer is empty.
func (s *Server) nothing(format string, args ...any) error {
	if s.o.Compat == Compat02 {
		return errNotFound02()
	}
	return &httpError{status: http.StatusNotFound, text: "Not Found: " + fmt.Sprintf(format, args...)}
}

func errNotFound02() error {
	return &httpError{status: http.StatusNotFound, text: "Not Found"}
}
