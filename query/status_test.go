package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/projector"
)

// Liveness and readiness depend on nothing that may hang. They answer even while nothing outside of
// the process answers.
func TestHealthLooksAtNothingOutside(t *testing.T) {
	w := startWorld(t, nil)
	w.influx.ping = func(context.Context) (string, error) { t.Error("InfluxDB was asked"); return "", nil }
	w.journal.err = errors.New("no state")
	w.do(t, "GET", "/healthz", "", "-").want(t, 200, `{"status":"ok"}`+"\n")
	w.do(t, "GET", "/readyz", "", "-").want(t, 200, `{"status":"ready","reasons":[]}`+"\n")
	w.proj.list = []projector.Status{{Name: "influx_raw", Failing: true, LastError: "http://user:secret@influx"}, {Name: "mist"}}
	a := w.do(t, "GET", "/readyz", "", "-")
	a.contains(t, 200, `"degraded"`)
	a.contains(t, 200, "influx_raw is failing")
	if strings.Contains(a.body, "secret") || strings.Contains(a.body, "mist") {
		t.Errorf("%s", a.body)
	}
	w.journal.healthy = errors.New("disk full")
	a = w.do(t, "GET", "/readyz", "", "-")
	a.contains(t, 503, "the journal cannot be written: disk full")
	w.do(t, "HEAD", "/readyz", "", "-").contains(t, 503, "")
	w.do(t, "GET", "/healthz", "", "-").contains(t, 200, "ok")
	w.journal.healthy, w.proj.list = nil, nil
	w.do(t, "GET", "/readyz", "", "-").contains(t, 200, `"ready"`)
}

// /status answers even if everything is broken, and does not wait for an InfluxDB that hangs.
func TestStatusWhenAllIsBroken(t *testing.T) {
	w := startWorld(t, nil)
	w.journal.err = errors.New("the journal is closed")
	waited := make(chan bool, 1)
	w.influx.ping = func(ctx context.Context) (string, error) {
		deadline, ok := ctx.Deadline()
		waited <- ok && time.Until(deadline) <= pingTimeout
		return "", errors.New("no route to host")
	}
	a := w.get(t, "/status")
	a.contains(t, 200, `"error": "the journal is closed"`)
	a.contains(t, 200, `"error": "no route to host"`)
	if !<-waited {
		t.Error("the look at InfluxDB is not bounded")
	}
}

func TestUptime(t *testing.T) {
	now := testNow
	w := startWorld(t, func(o *Options) { o.Now = func() time.Time { return now } })
	now = now.Add(90*time.Second + 5)
	w.get(t, "/status").contains(t, 200, `"uptime_seconds": 90,`)
}

// /rejects takes one parameter and refuses unknown ones. Without a source of rejects the route does
// not exist.
func TestRejects(t *testing.T) {
	w := startWorld(t, nil)
	w.rejects.list = []projector.Reject{
		{Projection: "raw", Seq: 1, Time: testNow}, {Projection: "raw", Seq: 2, Time: testNow},
		{Projection: "old", Seq: 9, Time: testNow.Add(-1)}, {Projection: "aggregates", Seq: 2, Time: testNow},
	}
	const format = `{"projection":%q,"sequence":%d,"relay":"","stat":"","count":1,"reason":"","time":"2026-11-23T10:20:30Z"}`
	raw1, raw2 := fmt.Sprintf(format, "raw", 1), fmt.Sprintf(format, "raw", 2)
	all := []string{fmt.Sprintf(format, "aggregates", 2), raw2, raw1, fmt.Sprintf(format, "old", 9)}
	w.get(t, "/rejects").want(t, 200, "["+strings.Join(all, ",")+"]\n")
	w.get(t, "/rejects?projection=raw").want(t, 200, "["+raw2+","+raw1+"]\n")
	w.get(t, "/rejects?projection=ra").want(t, 200, "[]\n")
	w.do(t, "GET", "/rejects?projection=raw&X-AUTH-TOKEN="+testToken, "", "-").contains(t, 200, raw2)
	w.do(t, "GET", "/rejects?projecton=raw", "", "-").contains(t, 401, "unauthorized")
	for query, part := range map[string]string{
		"projecton=raw": `\"projecton\" is not a parameter`, "projection=raw&verb=max": "verb", "projection=raw&projection=old": "2 times",
		"projection=": "no name", "projection=a%00": "control", "projection=%": "malformed", strings.Repeat("x", 999): `xxx...\"`,
	} {
		w.get(t, "/rejects?"+query).contains(t, 400, part)
	}
	w.do(t, "POST", "/rejects", "").contains(t, 405, "GET, HEAD, OPTIONS")
	w.rejects.err = errors.New("why")
	if a := w.get(t, "/rejects"); a.status != 500 || strings.Contains(a.body, "why") {
		t.Errorf("%d %s", a.status, a.body)
	}
	w = startWorld(t, func(o *Options) { o.Rejects = nil })
	w.get(t, "/rejects").contains(t, 404, "no such route")
}

// A request reaches ingest unchanged. Ingest's errors choose the status.
func TestControl(t *testing.T) {
	w := startWorld(t, nil)
	var got ingest.OverrideRequest
	var fail error
	w.control.override = func(r ingest.OverrideRequest) (ingest.Override, error) {
		got = r
		return ingest.Override{ID: "1"}, fail
	}
	w.control.cancel = func(id string) error {
		if id != "a/b" {
			t.Errorf("id %q", id)
		}
		return fail
	}
	var flushed []string
	w.control.flush = func(relays []string) int { flushed = relays; return len(relays) }

	w.relays.relays = []ingest.Relay{{ID: "a"}, {ID: "b"}}
	body := `{"duration":"1m30s","collectors":{"cpu":5,"disk":"1m"},"relays":["web 1","ä"]}`
	w.do(t, "POST", "/overrides", body).contains(t, 200, `"id":"1"`)
	if got.Duration != 90*time.Second || got.Collectors["cpu"] != 5*time.Second || got.Collectors["disk"] != time.Minute ||
		len(got.Relays) != 2 || got.Relays[0] != "web 1" {
		t.Errorf("%+v", got)
	}
	w.do(t, "POST", "/flush", `{"relays":["a","b"]}`).want(t, 200, `{"msg":"Success","relays":2}`+"\n")
	flushed = nil
	w.do(t, "POST", "/flush", `{"relays":["a","web1","b"]}`).want(t, 404, `{"error":"not found: no relay has the id \"web1\"; GET /relays lists those that there are"}`+"\n")
	if flushed != nil {
		t.Errorf("%q are flushed though one does not exist", flushed)
	}
	w.do(t, "POST", "/flush", " \n").want(t, 200, `{"msg":"Success","relays":0}`+"\n")
	if len(flushed) != 0 {
		t.Errorf("%q", flushed)
	}
	w.do(t, "DELETE", "/overrides/a%2Fb", "").want(t, 200, `{"msg":"Success"}`+"\n")
	for status, err := range map[int]error{
		http.StatusBadRequest:          errors.Join(ingest.ErrInvalid, errors.New("why")),
		http.StatusNotFound:            errors.Join(ingest.ErrNotFound, errors.New("why")),
		http.StatusInternalServerError: errors.New("why"),
	} {
		fail = err
		for _, a := range []answer{w.do(t, "POST", "/overrides", body), w.do(t, "DELETE", "/overrides/a%2Fb", "")} {
			if a.status != status || strings.Contains(a.body, "why") != (status < 500) {
				t.Errorf("%d %s, want %d", a.status, a.body, status)
			}
		}
	}
	for _, body := range []string{`null`, `[]`, `"x"`, `{`, `{"duration":null,"collectors":{"cpu":1}}`, `{"duration":1e99,"collectors":{"cpu":1}}`,
		`{"duration":-5,"collectors":{"cpu":1}}`, `{"duration":"","collectors":{"cpu":1}}`, `{"duration":60,"collectors":{"":1}}`,
		`{"duration":60,"collectors":{"a\u0000":1}}`, `{"duration":60,"collectors":{"cpu":"500ms"}}`, `{"duration":60,"collectors":{"cpu":1},"relays":[""]}`,
		`{"duration":60,"collectors":{"cpu":1},"relays":"web1"}`} {
		if a := w.do(t, "POST", "/overrides", body); a.status != 400 || !strings.HasPrefix(a.body, `{"error":"`) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}
