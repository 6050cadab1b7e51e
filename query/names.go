package query

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// Suffixes of the fields that the aggregates keep beside each stat's mean, which has the stat's
// name.
const (
	suffixSum   = ":sum"
	suffixCount = ":count"
	suffixMin   = ":min"
	suffixMax   = ":max"
	suffixLast  = ":last"
)

// isCompanion reports whether a field is one of these. Such a field is not shown as a stat.
func isCompanion(field string) bool {
	return slices.ContainsFunc([]string{suffixSum, suffixCount, suffixMin, suffixMax, suffixLast},
		func(suffix string) bool { return strings.HasSuffix(field, suffix) })
}

// The names in the aggregates. InfluxDB 1.6 wants ON for tags even when the source names the
// database.
const (
	showFields = `SHOW FIELD KEYS ON "statistics" FROM "one_week"."aggregate"`
	showTags   = `SHOW TAG KEYS ON "statistics" FROM "one_week"."aggregate"`
)

// keys lists the stats recorded: those read lately, and those in the aggregates.
func (s *Server) keys(w http.ResponseWriter, r *http.Request, _ params) error {
	names := slices.Clone(s.o.Latest.Stats())
	for _, field := range s.stored(r.Context(), showFields) {
		if !isCompanion(field) {
			names = append(names, field)
		}
	}
	s.writeNames(w, names)
	return nil
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
