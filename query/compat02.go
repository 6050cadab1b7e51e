package query

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector/latest"
)

// What follows is Compat02: where the released 0.2.3 answers, the answer is the same, to the
// letter.

// query02 is a query string as 0.2 read it: malformed parts are passed over, the first value of a
// reserved parameter counts, the case of a verb does not count, and /latest passes over the
// parameters of /hourly and /daily.
func query02(rawQuery string, history bool) string {
	values, _ := url.ParseQuery(rawQuery)
	for _, key := range []string{"verb", "start", "stop", "backfill", tokenName, strings.ToLower(tokenName)} {
		switch vs := values[key]; {
		case len(vs) == 0:
		case !history && slices.Contains([]string{"start", "stop", "backfill"}, key):
			delete(values, key)
		case key == "verb" && strings.ToLower(vs[0]) != string(verbNone): // none was no function of InfluxDB
			values[key] = []string{strings.ToLower(vs[0])}
		default:
			values[key] = vs[:1]
		}
	}
	return values.Encode()
}

// latestTime02 is the time of a combined value: 0.2 had InfluxDB group readings by the poll
// interval, and answered the beginning of the newest group.
func (s *Server) latestTime02(ns int64) int64 { return floor.To(ns, int64(s.o.PollInterval)) }

// latestEach02 answers the readings as they are, newest first: as many as the tag that was given
// most often has values, with the tags that were given more than once. A single reading is a plain
// stat object.
func (s *Server) latestEach02(w http.ResponseWriter, name string, sel selection, since int64) error {
	limit := 1
	for _, f := range sel.filters {
		limit = max(limit, f.given)
	}
	type entry struct {
		time  int64
		value float64
		tags  []any // of the filters given more than once, in their order; nil for a series without
	}
	var found []entry
	s.o.Latest.Select(name, sel.filters.byKey(), since, func(r latest.Reading) {
		e := entry{time: r.Time, value: r.Value}
		for _, f := range sel.filters {
			if f.given < 2 {
				continue
			}
			var value any
			if i := slices.IndexFunc(r.Tags, func(t latest.Tag) bool { return t.Key == f.key }); i >= 0 {
				value = r.Tags[i].Value
			}
			e.tags = append(e.tags, value)
		}
		found = append(found, e)
	})
	if len(found) == 0 {
		return errNotFound02()
	}
	slices.SortFunc(found, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.time, a.time), strings.Compare(fmt.Sprint(a.tags), fmt.Sprint(b.tags)), cmp.Compare(a.value, b.value))
	})
	found = found[:min(limit, len(found))]
	if len(found) == 1 {
		s.writeJSON(w, http.StatusOK, stat{s.unix(found[0].time), found[0].value})
		return nil
	}
	answer := make([]map[string]any, len(found))
	for i, e := range found {
		answer[i] = map[string]any{"time": s.unix(e.time), "value": e.value}
		for _, f := range sel.filters {
			if f.given > 1 {
				answer[i][f.key], e.tags = e.tags[0], e.tags[1:]
			}
		}
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

// alert02 is an alert as 0.2 read and answered it. The threshold was text.
type alert02 struct {
	ID        string            `json:"id"`
	Tags      map[string]string `json:"tags,omitempty"`
	Metric    string            `json:"metric"`
	Level     string            `json:"level,omitempty"`
	Operator  string            `json:"operator"`
	Threshold string            `json:"threshold"`
	Duration  string            `json:"duration"`
	Post      string            `json:"post"`
}

// addAlert02 makes an alert, also for PUT, and answers what it was given. 0.2 passed over unknown
// fields. Of these, the fields that alerts have now are taken.
func (s *Server) addAlert02(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	var alert alert02
	var fields map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(body, &alert), json.Unmarshal(body, &fields)); err != nil {
		return &httpError{status: http.StatusBadRequest, text: "Bad JSON syntax received in body", err: err}
	}
	if alert.Metric == "" || alert.Post == "" {
		return &httpError{status: http.StatusBadRequest, text: "Missing value in payload"}
	}
	alert.Level, alert.Duration = cmp.Or(alert.Level, string(kapa.Crit)), cmp.Or(alert.Duration, "5m")
	operator := kapa.Operator(alert.Operator)
	if !slices.Contains([]kapa.Operator{kapa.GreaterOrEqual, kapa.Less, kapa.LessOrEqual, kapa.Equal, kapa.NotEqual}, operator) {
		operator = kapa.Greater
	}
	now := map[string]any{"tags": alert.Tags, "metric": alert.Metric, "level": alert.Level, "operator": operator,
		"threshold": alert.Threshold, "duration": alert.Duration, "post": alert.Post}
	for _, name := range []string{"every", "recover", "deadman", "by"} {
		if raw, ok := fields[name]; ok {
			now[name] = raw
		}
	}
	text, err := json.Marshal(now)
	if err != nil {
		return err
	}
	decoded, err := kapa.Decode(text)
	if err != nil {
		return err
	}
	view, err := s.o.Alerts.Create(decoded)
	if err != nil {
		return err
	}
	alert.ID = view.ID
	s.writeJSON(w, http.StatusOK, alert)
	return nil
}

// view02 is an alert as GET answers it. 0.2 answered what Kapacitor held of the alert, which cannot
// be had without Kapacitor. So only the threshold is text here too.
func view02(v kapa.View) any {
	return struct {
		kapa.View
		Threshold string `json:"threshold"`
	}{v, strconv.FormatFloat(float64(v.Threshold), 'g', -1, 64)}
}
