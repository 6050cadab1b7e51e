package ingest

import (
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/duration"
	"github.com/nanopack/pulse/internal/strictjson"
)

// MarshalJSON shows the relay as the API does.
func (r Relay) MarshalJSON() ([]byte, error) {
	type plain Relay // without this method
	r.ConnectedAt, r.LastSeen = apijson.Time(r.ConnectedAt), apijson.Time(r.LastSeen)
	return apijson.Marshal(plain(r))
}

// MarshalJSON shows the override as the API does.
func (o Override) MarshalJSON() ([]byte, error) {
	collectors := make(map[string]apijson.Seconds, len(o.Collectors))
	for name, interval := range o.Collectors {
		collectors[name] = apijson.Seconds(interval)
	}
	return apijson.Marshal(struct {
		ID         string                     `json:"id"`
		Duration   apijson.Seconds            `json:"duration"`
		Remaining  apijson.Seconds            `json:"remaining"`
		Created    time.Time                  `json:"created"`
		Until      time.Time                  `json:"until"`
		Collectors map[string]apijson.Seconds `json:"collectors"`
		Relays     []string                   `json:"relays"`
	}{
		o.ID, apijson.Seconds(o.Until.Sub(o.Created).Round(time.Second)), apijson.Seconds(max(0, o.Remaining.Round(time.Second))),
		apijson.Time(o.Created), apijson.Time(o.Until), collectors, append([]string{}, slices.Sorted(slices.Values(o.Relays))...),
	})
}

// UnmarshalJSON reads the request of a client: no field of another name, and durations as people
// write them.
func (req *OverrideRequest) UnmarshalJSON(text []byte) error {
	var body struct {
		Duration   duration.Given            `json:"duration"`
		Collectors map[string]duration.Given `json:"collectors"`
		Relays     []string                  `json:"relays"`
	}
	if err := strictjson.Into(text, &body); err != nil {
		return err
	}
	*req = OverrideRequest{Duration: time.Duration(body.Duration), Relays: body.Relays,
		Collectors: make(map[string]time.Duration, len(body.Collectors))}
	for name, interval := range body.Collectors {
		req.Collectors[name] = time.Duration(interval)
	}
	return nil
}
