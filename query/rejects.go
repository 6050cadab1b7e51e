package query

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/nanopack/pulse/internal/apijson"
)

// rejects lists what sinks refused for good, the newest first.
func (s *Server) rejects(w http.ResponseWriter, r *http.Request, _ params) error {
	projection, err := parseRejects(r.URL.RawQuery)
	if err != nil {
		return err
	}
	rejects, err := s.o.Rejects.Rejects(r.Context())
	if err != nil {
		return err
	}
	answer := []Reject{}
	for _, reject := range rejects {
		if projection == "" || reject.Projection == projection {
			answer = append(answer, reject)
		}
	}
	slices.SortStableFunc(answer, func(a, b Reject) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.Sequence, a.Sequence), cmp.Compare(a.Projection, b.Projection))
	})
	for i := range answer {
		answer[i].Count = max(1, answer[i].Count)
		answer[i].Time = apijson.Time(answer[i].Time)
	}
	s.writeJSON(w, http.StatusOK, answer)
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
