package query

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/nanopack/pulse/projector"
)

// rejects lists what sinks refused for good, the newest first.
func (s *Server) rejects(w http.ResponseWriter, r *http.Request, _ params) error {
	projection, err := parseRejects(r.URL.RawQuery)
	if err != nil {
		return err
	}
	rejects, err := s.o.Rejects.List()
	if err != nil {
		return err
	}
	if projection != "" {
		rejects = slices.DeleteFunc(rejects, func(r projector.Reject) bool { return r.Projection != projection })
	}
	slices.SortStableFunc(rejects, func(a, b projector.Reject) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Seq, a.Seq), cmp.Compare(a.Projection, b.Projection))
	})
	s.writeJSON(w, http.StatusOK, rejects)
	return nil
}

// parseRejects reads the query parameters of /rejects: the projection to list, "" for all. A
// misspelled parameter is refused, because without it the answer would be everything.
func parseRejects(rawQuery string) (projection string, err error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", badRequest("the query string is malformed: %v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) { // sorted, so that of several mistakes the same one is reported
		vs := values[key]
		if key != "projection" && key != tokenName {
			return "", badRequest("%q is not a parameter of /rejects: use projection or none", shorten(key, 40))
		}
		if len(vs) > 1 {
			return "", badRequest("%s is given %d times: give it once", key, len(vs))
		}
		if key == "projection" {
			projection = vs[0]
			if err := checkName("the projection", projection); err != nil {
				return "", err
			}
		}
	}
	return projection, nil
}
