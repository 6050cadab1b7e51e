package influx_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nanopack/pulse/projector/influx"
)

// Whatever an InfluxDB (or another server in its place) answers, only a short part of the answer
// gets into errors, rejects and the version.
func TestExternalIsBounded(t *testing.T) {
	long := strings.Repeat("very long ", 1<<17)
	raw := func(head string) func(w http.ResponseWriter, _ *http.Request, _ string) {
		return func(w http.ResponseWriter, _ *http.Request, _ string) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, head+long+"\r\n\r\n") // the store may have hung up
		}
	}
	for name, says := range map[string]func(w http.ResponseWriter, r *http.Request, body string){
		"a status line": raw("HTTP/1.1 500 "),
		"no HTTP":       raw(""),
		"a header":      raw("HTTP/1.1 204 No Content\r\nX-Influxdb-Version: "),
		"an error":      func(w http.ResponseWriter, _ *http.Request, _ string) { answer(w, 500, `{"error":"`+long+`"}`) },
		"a bad request": func(w http.ResponseWriter, _ *http.Request, _ string) { answer(w, 400, `{"error":"`+long+`"}`) },
		"a statement": func(w http.ResponseWriter, _ *http.Request, _ string) {
			answer(w, 200, `{"results":[{"error":"`+long+`"}]}`)
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request, _ string) { answer(w, 200, long) },
		"a partial write": func(w http.ResponseWriter, _ *http.Request, _ string) {
			answer(w, 400, `{"error":"partial write: `+long+` dropped=2"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stub(t, influx.ExternalOptions{}, says)
			bounded := func(text string) {
				t.Helper()
				if len(text) > 1200 {
					t.Errorf("%d bytes: %.100s", len(text), text)
				}
			}
			version, err := s.Ping(t.Context())
			if bounded(version); err != nil {
				bounded(err.Error())
			}
			if _, err := s.Query(t.Context(), "SHOW DATABASES", nil); err != nil {
				bounded(err.Error())
			}
			res, err := s.Write(t.Context(), influx.PolicyRaw, batch(3))
			if bounded(res.Reason); err != nil {
				bounded(err.Error())
			}
			if name == "a partial write" && (err != nil || res.Rejected != 2) {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}
