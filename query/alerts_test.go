package query

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nanopack/pulse/kapa"
)

var _ Alerts = (*kapa.Alerts)(nil)

// A decoded request reaches the alerts. The alerts' errors choose the status, wrapped or not.
func TestAlerts(t *testing.T) {
	w := startWorld(t, nil)
	var got kapa.Alert
	var fail error
	put := func(a kapa.Alert) (kapa.View, error) { got = a; return kapa.View{Alert: a}, fail }
	w.alerts.create, w.alerts.update = put, put
	w.alerts.list = func() ([]kapa.View, error) { return nil, fail }
	byID := func(id string) error {
		if id != "a/b" {
			t.Errorf("id %q", id)
		}
		return fail
	}
	w.alerts.get = func(id string) (kapa.View, error) { return kapa.View{}, byID(id) }
	w.alerts.remove = byID

	const body = `{"metric":"cpu","tags":{"host":"ä"},"threshold":"-1.5e2","post":"http://127.0.0.1/"}`
	w.do(t, "POST", "/alerts", body).contains(t, 200, `"threshold":-150,"duration":"5m","post":"http://127.0.0.1/","every":"30s"`)
	if got.Metric != "cpu" || got.Tags["host"] != "ä" || got.Level != kapa.Crit || got.Operator != kapa.Greater || got.Threshold != -150 {
		t.Errorf("%+v", got)
	}
	w.do(t, "DELETE", "/alerts/a%2Fb", "").want(t, 200, `{"msg":"Success"}`+"\n")
	w.get(t, "/alerts").want(t, 200, "[]\n")
	w.do(t, "POST", "/alerts", `{"post":"`+strings.Repeat("x", maxBodyBytes)+`"}`).contains(t, 413, "the body is longer than 1048576 bytes")
	w.do(t, "PATCH", "/alerts", "").contains(t, 405, "GET, HEAD, POST, PUT, OPTIONS")
	w.do(t, "POST", "/alerts", body, "-").contains(t, 401, "unauthorized")
	for status, err := range map[int]error{
		http.StatusBadRequest:          fmt.Errorf("secret: %w", &kapa.FieldError{Field: "why", Want: "be"}),
		http.StatusNotFound:            fmt.Errorf("secret: %w", kapa.ErrNotFound),
		http.StatusConflict:            fmt.Errorf("secret: %w", kapa.ErrTooMany),
		http.StatusInternalServerError: errors.New("secret"),
	} {
		fail = err
		for _, a := range []answer{w.do(t, "POST", "/alerts", body), w.do(t, "PUT", "/alerts", body), w.do(t, "DELETE", "/alerts/a%2Fb", ""),
			w.get(t, "/alerts/a%2Fb"), w.get(t, "/alerts")} {
			if a.status != status || strings.Contains(a.body, "secret") || !strings.HasPrefix(a.body, `{"error":"`) {
				t.Errorf("%d %s, want %d", a.status, a.body, status)
			}
		}
	}
	w = startWorld(t, func(o *Options) { o.Alerts = nil })
	for _, route := range []string{"GET /alerts", "POST /alerts", "PUT /alerts", "GET /alerts/a", "DELETE /alerts/a"} {
		method, path, _ := strings.Cut(route, " ")
		w.do(t, method, path, body).contains(t, 404, "no such route")
	}
}
