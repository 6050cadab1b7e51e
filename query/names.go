package query

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/projector/latest"
)

// The statements that ask for the names in the aggregates. InfluxDB 1.6 wants ON for tags even when
// the source names the database.
const (
	onWindows  = `ON "` + influxnames.Database + `" FROM "` + influxnames.Aggregates + `"."` + influxnames.Aggregate + `"`
	showFields = `SHOW FIELD KEYS ` + onWindows
	showTags   = `SHOW TAG KEYS ` + onWindows
)

// detailName is the parameter by which /keys says more of each stat.
const detailName = "detail"

// key is a stat with what is known of it.
type key struct {
	Stat string `json:"stat"`
	Unit string `json:"unit,omitempty"` // what the values are in: percent, bytes
}

// keys lists the stats recorded: those read lately, and those in the aggregates. With filters it
// lists the stats of the series that match and were read lately.
func (s *Server) keys(w http.ResponseWriter, r *http.Request, _ params) error {
	var sel selection
	detail := false
	if r.URL.RawQuery != "" && s.o.Compat != Compat02 {
		var err error
		if sel, detail, err = parseKeys(r.URL.RawQuery, s.o.Now(), s.o.Location); err != nil {
			return err
		}
	}
	var names []string
	if len(sel.filters) > 0 {
		names = s.matching(sel.filters.byKey())
	} else {
		names = slices.Clone(s.o.Latest.Stats())
		for _, field := range s.stored(r.Context(), showFields) {
			if !influxnames.IsCompanion(field) {
				names = append(names, field)
			}
		}
	}
	if !detail {
		s.writeNames(w, names)
		return nil
	}
	units := s.o.Relays.Units()
	keys := []key{}
	for _, name := range sorted(names) {
		keys = append(keys, key{name, units[name]})
	}
	s.writeJSON(w, http.StatusOK, keys)
	return nil
}

// parseKeys reads the query parameters of /keys. detail is whether more than the names is wanted.
func parseKeys(rawQuery string, now time.Time, loc *time.Location) (sel selection, detail bool, err error) {
	values, err := parseQuery(rawQuery)
	if err != nil {
		return sel, false, err
	}
	if given, ok := values[detailName]; ok {
		if detail, err = strconv.ParseBool(given[0]); err != nil || len(given) > 1 {
			return sel, false, badRequest("detail must be 1 or 0")
		}
		values.Del(detailName)
	}
	sel, err = parseSelection(values.Encode(), 0, now, loc)
	return sel, detail, err
}

// matching returns the stats of the series that match and were read lately.
func (s *Server) matching(filters map[string][]string) (names []string) {
	for _, stat := range s.o.Latest.Stats() {
		has := false
		s.o.Latest.Select(stat, filters, math.MinInt64, func(latest.Reading) { has = true })
		if has {
			names = append(names, stat)
		}
	}
	return names
}

// tags lists the tags to filter by.
func (s *Server) tags(w http.ResponseWriter, r *http.Request, _ params) error {
	s.writeNames(w, slices.Concat(s.o.Latest.TagKeys(), s.stored(r.Context(), showTags)))
	return nil
}

// stored returns the names that a SHOW statement answers. While InfluxDB is away there are none:
// the live names have to do, and the failure is counted.
func (s *Server) stored(ctx context.Context, statement string) []string {
	names, err := s.askNames(ctx, statement, nil)
	if err != nil {
		s.log.Debug("names come from memory alone", "error", err)
		return nil
	}
	return names
}

// askNames returns the first column of what a SHOW statement answers.
func (s *Server) askNames(ctx context.Context, statement string, params map[string]any) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, min(namesTimeout, s.o.QueryTimeout))
	defer cancel()
	rows, err := s.askInflux(ctx, statement, params)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, row := range rows {
		for _, v := range row.Values {
			if len(v) == 0 {
				continue
			}
			if name, ok := v[0].(string); ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func (s *Server) writeNames(w http.ResponseWriter, names []string) {
	names = sorted(names)
	if len(names) == 0 {
		if s.o.Compat == Compat02 {
			names = nil // null
		} else {
			names = []string{}
		}
	}
	s.writeJSON(w, http.StatusOK, names)
}

// sorted sorts names, and leaves each one once.
func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
