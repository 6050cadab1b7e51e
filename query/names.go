package query

import (
	"context"
	"math"
	"net/http"
	"slices"

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

// keys lists the stats recorded: those read lately, and those in the aggregates. With filters it
// lists the stats of the series that match and were read lately.
func (s *Server) keys(w http.ResponseWriter, r *http.Request, _ params) error {
	if r.URL.RawQuery != "" && s.o.Compat != Compat02 {
		sel, err := parseSelection(r.URL.RawQuery, 0, s.o.Now(), s.o.Location)
		if err != nil {
			return err
		}
		if len(sel.filters) > 0 {
			s.writeNames(w, s.keysOf(sel.filters.byKey()))
			return nil
		}
	}
	names := slices.Clone(s.o.Latest.Stats())
	for _, field := range s.stored(r.Context(), showFields) {
		if !influxnames.IsCompanion(field) {
			names = append(names, field)
		}
	}
	s.writeNames(w, names)
	return nil
}

func (s *Server) keysOf(filters map[string][]string) (names []string) {
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
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		if s.o.Compat == Compat02 {
			names = nil // null
		} else {
			names = []string{}
		}
	}
	s.writeJSON(w, http.StatusOK, names)
}
