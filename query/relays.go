package query

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// MarshalJSON shows the interval in seconds, as everywhere in the API.
func (c Collector) MarshalJSON() ([]byte, error) {
	tags := c.Tags
	if tags == nil {
		tags = []string{}
	}
	return json.Marshal(struct {
		Name     string   `json:"name"`
		Tags     []string `json:"tags"`
		Interval float64  `json:"interval"`
	}{c.Name, tags, c.Interval.Seconds()})
}

// relays lists the registry, by id.
func (s *Server) relays(w http.ResponseWriter, _ *http.Request, _ params) error {
	relays := s.o.Relays.Relays()
	slices.SortFunc(relays, func(a, b Relay) int { return cmp.Compare(a.ID, b.ID) })
	for i := range relays {
		if relays[i].Collectors == nil {
			relays[i].Collectors = []Collector{}
		}
		relays[i].ConnectedAt = utcSeconds(relays[i].ConnectedAt)
		relays[i].LastSeen = utcSeconds(relays[i].LastSeen)
	}
	if relays == nil {
		relays = []Relay{}
	}
	s.writeJSON(w, http.StatusOK, relays)
	return nil
}

// forgetRelay forgets a relay that is not connected. Any id will do that a relay may have: it is only looked up.
func (s *Server) forgetRelay(w http.ResponseWriter, r *http.Request, p params) error {
	if err := s.o.Control.Forget(r.Context(), p.get("id")); err != nil {
		return controlError(err)
	}
	s.writeJSON(w, http.StatusOK, message{"Success"})
	return nil
}

// utcSeconds is how the API shows a time that is no stat's: RFC 3339 in UTC, whole seconds.
func utcSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}
