package query

import (
	"errors"
	"fmt"
	"github.com/nanopack/pulse/projector/past"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A request reaches the source of replays. The source's errors choose the status.
func TestReplays(t *testing.T) {
	w := startWorld(t, nil)
	var got past.Request
	var fail error
	w.replays.create = func(r past.Request) (past.Job, error) {
		got = r
		return past.Job{ID: "a/b", Projections: []string{}, Parts: []past.Part{}}, fail
	}
	byID := func(id string) (past.Job, error) {
		if id != "a/b" {
			t.Errorf("id %q", id)
		}
		return past.Job{ID: id}, fail
	}
	w.replays.get, w.replays.cancel = byID, byID

	const body = `{"projection":"raw","from":"2026-11-23T10:00:00.5+01:00","to":"1h","dry_run":true}`
	a := w.do(t, "POST", "/replay", body)
	a.contains(t, 202, `"projections":[],`)
	if location := a.header.Get("Location"); location != "/replay/a%2Fb" {
		t.Errorf("Location %q", location)
	}
	w.get(t, a.header.Get("Location")).contains(t, 200, `"id":"a/b"`)
	from := time.Date(2026, 11, 23, 9, 0, 0, 500_000_000, time.UTC)
	if len(got.Projections) != 1 || got.Projections[0] != "raw" || !got.From.Equal(from) || !got.To.Equal(testNow.Add(-time.Hour)) || !got.DryRun {
		t.Errorf("%+v", got)
	}
	w.do(t, "POST", "/replay", `{"projection":"all","from":"1ms","to":null}`).contains(t, 202, `"parts":[]`)
	if !got.To.IsZero() || got.DryRun || !got.From.Equal(testNow.Add(-time.Millisecond)) {
		t.Errorf("%+v", got)
	}
	for status, err := range map[int]error{
		http.StatusBadRequest:          fmt.Errorf("%w: why", past.ErrInvalid),
		http.StatusNotFound:            fmt.Errorf("%w: why", past.ErrNotFound),
		http.StatusConflict:            fmt.Errorf("%w: why", past.ErrTooMany),
		http.StatusInternalServerError: errors.New("why"),
	} {
		fail = err
		for _, a := range []answer{w.do(t, "POST", "/replay", body), w.get(t, "/replay/a%2Fb"), w.do(t, "DELETE", "/replay/a%2Fb", "")} {
			if a.status != status || strings.Contains(a.body, "why") != (status < 500) || a.header.Get("Location") != "" {
				t.Errorf("%d %s, want %d", a.status, a.body, status)
			}
		}
	}
	fail = nil
	w.do(t, "PUT", "/replay", "").contains(t, 405, "GET, HEAD, POST, OPTIONS")
	w.do(t, "POST", "/replay", body, "-").contains(t, 401, "unauthorized")
	w.do(t, "POST", "/replay", `{"from":"`+strings.Repeat("1", maxBodyBytes)+`"}`).contains(t, 413, "longer than 1048576 bytes")

	w = startWorld(t, func(o *Options) { o.Replays = nil })
	for _, route := range []string{"GET /replay", "POST /replay", "GET /replay/1", "DELETE /replay/1"} {
		method, path, _ := strings.Cut(route, " ")
		w.do(t, method, path, body).contains(t, 404, "no such route")
	}
}

// A misleading request is refused, and the answer names the wrong field.
func TestReplayRequestsRefused(t *testing.T) {
	w := startWorld(t, nil)
	w.replays.create = func(r past.Request) (past.Job, error) { t.Errorf("made %+v", r); return past.Job{}, nil }
	for body, part := range map[string]string{
		`null`: "JSON object", `[]`: "JSON object", `"x"`: "JSON object", `{`: "JSON object", `{"from":"6h"`: "JSON object", `{"from":}`: "JSON object",
		`{"from":"6h"}{"from":"6h"}`:                        "more than one",
		`{"From":"6h"}`:                                     `\"From\" is not a field`,
		`{"from":"6h","` + strings.Repeat("x", 99) + `":1}`: "xxx...",
		`{"from":"6h","from":"6h"}`:                         "from is given twice",
		`{"from":"6h","dry_run":1}`:                         "dry_run must be",
		`{"from":"6h","to":[]}`:                             "to must be",
		`{"from":"6h","projection":["raw"]}`:                "projection must be",
		`{"from":"6h","projection":"a\u0000"}`:              "the projection",
		`{"from":null}`:                                     "from is missing",
		`{"from":""}`:                                       "from is missing",
		`{"from":"-6h"}`:                                    `from \"-6h\"`,
		`{"from":"3661d"}`:                                  `from \"3661d\"`,
		`{"from":"2026-11-31"}`:                             `from \"2026-11-31\"`,
		`{"from":"1h","to":"tomorrow"}`:                     `to \"tomorrow\"`,
		`{"from":"2026-11-23T10:20:31Z"}`:                   "from is 2026-11-23T10:20:31Z, which is in the future",
		`{"from":"0"}`:                                      "from must be before to",
		`{"from":"1h","to":"2h"}`:                           "from must be before to",
	} {
		w.do(t, "POST", "/replay", body).contains(t, 400, part)
	}
}
