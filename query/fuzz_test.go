package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/duration"
)

// Any body gives a range that lies before now, or a text that says what is wrong. An accepted body
// never holds a field twice or any text after the object.
func FuzzReplayBody(f *testing.F) {
	for _, evil := range corpus(f) {
		text, err := json.Marshal(evil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(evil))
		f.Add([]byte(`{"projection":` + string(text) + `,"from":"6h"}`))
		f.Add([]byte(`{"projection":"raw","from":` + string(text) + `,"to":"1h","dry_run":true}`))
	}
	for _, body := range []string{`{"from":"2026-11-20T00:00:00Z","to":"2026-11-20T00:00:01.5+02:00"}`, `{"from":"1d","from":"2d"}`, `{"from":"1d"} {}`, `{"from":"1d"}}`,
		`{"from":null}`, `{"FROM":"1d"}`, `{"fr\u006fm":"1d"}`, `[]`, `null`, `{"dry_run":1,"from":"1d"}`, `{"from":"9999999w"}`, `{"from":"0001-01-01T00:00:00Z"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := parseReplay(body, testNow, time.UTC)
		if err == nil {
			err = request.Validate(testNow)
		}
		if err != nil {
			if err.Error() == "" || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: %q is no line that says why", body, err)
			}
			return
		}
		if end := request.To; request.From.After(testNow) || !end.IsZero() && !request.From.Before(end) || end.IsZero() && !request.From.Before(testNow) {
			t.Fatalf("%q: from %s to %s", body, request.From, end)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil { // the whole body
			t.Fatalf("%q was accepted: %v", body, err)
		}
		for name := range fields {
			if !slices.Contains([]string{"projection", "from", "to", "edge", "dry_run"}, name) {
				t.Fatalf("%q was accepted with %q", body, name)
			}
		}
		if len(request.Projections) > 1 || len(request.Projections) == 1 && checkName("it", request.Projections[0]) != nil {
			t.Fatalf("%q: projections %q", body, request.Projections)
		}
	})
}

// Whatever the body, an order that reaches the relays has bounded durations in whole seconds, and
// only valid names.
func FuzzOrders(f *testing.F) {
	for _, body := range []string{`{"duration":60,"collectors":{"cpu":5}}`, `{"duration":"90s","collectors":{"cpu":"5m","ram":1},"relays":["web1"]}`, `{"duration":1e3,"collectors":{"a":1.5}}`,
		`{"duration":604800,"collectors":{"":1}}`, `{"duration":604801,"collectors":{"a":1}}`, `{"duration":9223372036854775807,"collectors":{"a":9223372036854775807}}`,
		`{"duration":"9999999999h","collectors":{"a":-1}}`, `{"relays":["a\u0000b"]}`, `{"relays":["nobody"]}`, `{"relays":null}`, ``, `{}{}`} {
		f.Add(body)
	}
	var got ingest.OverrideRequest
	var flushed []string
	reached := false
	w := newWorld(f, func(o *Options) { o.Token = "" })
	w.control.override = func(r ingest.OverrideRequest) (ingest.Override, error) {
		got, reached = r, true
		return ingest.Override{Created: testNow, Until: testNow.Add(r.Duration), Collectors: r.Collectors, Relays: r.Relays}, nil
	}
	w.control.flush = func(relays []string) int { flushed, reached = relays, true; return len(relays) }
	f.Fuzz(func(t *testing.T, body string) {
		got, flushed = ingest.OverrideRequest{}, nil
		for _, path := range []string{"/overrides", "/flush"} {
			reached = false
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, httptest.NewRequest("POST", path, strings.NewReader(body)))
			unknown := path == "/flush" && rec.Code == 404 // a relay that does not exist
			if !json.Valid(rec.Body.Bytes()) || (rec.Code == 200) != reached || rec.Code != 200 && rec.Code != 400 && rec.Code != 413 && !unknown {
				t.Fatalf("%s %q: %d %s", path, body, rec.Code, rec.Body)
			}
		}
		if d := got.Duration; d%time.Second != 0 || d < 0 || d > ingest.MaxOverride {
			t.Fatalf("%q: for %s", body, d)
		}
		for name, d := range got.Collectors {
			if d < time.Second || d%time.Second != 0 || checkName("it", name) != nil {
				t.Fatalf("%q: %q every %s", body, name, d)
			}
		}
		for _, id := range append(got.Relays, flushed...) {
			if checkName("it", id) != nil {
				t.Fatalf("%q: the relay %q", body, id)
			}
		}
	})
}

// Whatever the parameters and the header of a stream, it resumes after exactly the given number, or
// not at all. A ticket, a token and an id are never filters.
func FuzzLiveRequest(f *testing.F) {
	for _, evil := range corpus(f) {
		f.Add("cpu", "host="+url.QueryEscape(evil)+"&ticket="+url.QueryEscape(evil), evil)
		f.Add(evil, url.QueryEscape(evil)+"=1&last-event-id="+url.QueryEscape(evil), "")
	}
	for _, id := range []string{"0", "007", "+1", "-0", "18446744073709551615", "18446744073709551616", "1e3", "0x1", "1_000", " 1", "\u0661"} {
		f.Add("", "last-event-id=41&X-AUTH-TOKEN=x&x-auth-token=y&host=a&host=b&host=a", id)
	}
	f.Fuzz(func(t *testing.T, stat, rawQuery, id string) {
		r := httptest.NewRequest("GET", "/live", nil)
		r.URL.RawQuery = rawQuery
		r.Header.Set(lastEventID, id)
		request, err := parseLive(r, stat)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a text")
			}
			return
		}
		values, err := url.ParseQuery(rawQuery)
		if err != nil {
			t.Fatalf("%q was accepted: %v", rawQuery, err)
		}
		if id == "" {
			id = values.Get("last-event-id")
		}
		if after, err := strconv.ParseUint(id, 10, 64); request.Resume != (id != "") || request.Resume && (err != nil || request.After != after) {
			t.Fatalf("%q %q: %+v", rawQuery, id, request)
		}
		for key, list := range request.Filters {
			if slices.Contains([]string{tokenName, strings.ToLower(tokenName), ticketName, "last-event-id", "verb"}, key) || !sameSet(list, values[key]) {
				t.Fatalf("%q: the filter %q has %q", rawQuery, key, list)
			}
		}
		if request.Stat != stat || stat != "" && checkName("the stat", stat) != nil {
			t.Fatalf("%q became the stat %q", stat, request.Stat)
		}
	})
}

// sameSet reports whether two lists hold the same texts, ignoring repetitions.
func sameSet(a, b []string) bool {
	distinct := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	return slices.Equal(distinct(a), distinct(b))
}

// Durations never overflow and never exceed the bound. An accepted duration has the value that its
// text says.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1d", "90m", "1h30m", "5u", "5µ", "10ms", "2w", "", "0", "-1h", "1", "d", "1.5h", "9999999999999999999h", "3660d", "3660d1u", "1h 2m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := duration.Parse(s, maxBack)
		if err != nil {
			return
		}
		if d < 0 || d > maxBack {
			t.Fatalf("%q is %s", s, d)
		}
		if again, err := influxql.ParseDuration(s); err != nil || again != d {
			t.Fatalf("%q is %s here and %s (%v) to InfluxQL", s, d, again, err)
		}
	})
}

// FuzzEdgeBody: a body without an edge stays as it is. Of any other, the edge gets one JSON object,
// with all fields but the edge, which has a name.
func FuzzEdgeBody(f *testing.F) {
	for _, evil := range corpus(f) {
		text, err := json.Marshal(evil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(evil), "")
		f.Add([]byte(`{"edge":`+string(text)+`,"relays":[`+string(text)+`]}`), "")
		f.Add([]byte(`{`+string(text)+`:{}}`), evil)
	}
	for _, body := range []string{``, ` `, `null`, `[]`, `{"edge":"ams1"}`, `{"edge":null}`, `{"\u0065dge":"ams1","EDGE":"fra1"}`, `{"edge":"ams1","edge":"fra1"}`, `{"edge":"ams1"} {}`, `{"edge":"ams1","a":1,"a":"<"}`} {
		f.Add([]byte(body), "")
		f.Add([]byte(body), "ams1")
	}
	s := &Server{o: Options{Edges: &fakeEdges{}}}
	f.Fuzz(func(t *testing.T, body []byte, parameter string) {
		r := httptest.NewRequest("POST", "/flush?edge="+url.QueryEscape(parameter), bytes.NewReader(body))
		edge, rest, err := s.bodyFor(r, true)
		switch {
		case err != nil:
			if err.Error() == "" || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%q: %q is no line that says why", body, err)
			}
			return
		case edge == "":
			var named struct {
				Edge string `json:"edge"`
			}
			var fields map[string]json.RawMessage
			if json.Unmarshal(body, &fields) == nil && fields["edge"] != nil && json.Unmarshal(fields["edge"], &named.Edge) == nil && named.Edge != "" {
				t.Fatalf("%q: the edge was passed over", body)
			}
			if parameter != "" || fields["edge"] == nil && !bytes.Equal(rest, body) {
				t.Fatalf("%q became %q for no edge", body, rest)
			}
			return
		case checkName("it", edge) != nil || parameter != "" && edge != parameter:
			t.Fatalf("%q, %q: edge %q", body, parameter, edge)
		case rest == nil && len(bytes.TrimSpace(body)) == 0:
			return
		}
		var given, passed map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(body, &given), json.Unmarshal(rest, &passed)); err != nil {
			t.Fatalf("%q became %q: %v", body, rest, err)
		}
		delete(given, "edge")
		if !slices.Equal(slices.Sorted(maps.Keys(given)), slices.Sorted(maps.Keys(passed))) {
			t.Fatalf("%q became %q", body, rest)
		}
	})
}
