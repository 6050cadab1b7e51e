package query

import (
	"net/http"
	"testing"
)

// Every kind of answer has the headers that let a browser's script read it, and no headers that
// allow more.
func TestCORSMatrix(t *testing.T) {
	for _, compat := range []string{"", Compat02} {
		w := newWorld(t, func(o *Options) { o.Compat, o.CORS = compat, "https://dash.example" })
		w.router, w.methods = w.newRouter(append(w.routes(), route{method: "GET", path: "/panic",
			handle: func(http.ResponseWriter, *http.Request, params) error { panic("test") }}))
		w.Start()
		wrongMethod := 405
		badVerb := 400
		if compat != "" {
			wrongMethod, badVerb = 404, 404
		}
		for _, c := range []struct {
			method, path string
			status       int
			headers      []string
		}{
			{"GET", "/ping", 200, nil},
			{"HEAD", "/ping", 200, nil},
			{"GET", "/keys", 200, nil},
			{"GET", "/keys", 401, []string{"-"}},
			{"GET", "/nosuch", 404, nil},
			{"GET", "/nosuch", 401, []string{"-"}},
			{"POST", "/keys", wrongMethod, nil},
			{"GET", "/latest/cpu", 404, nil},
			{"GET", "/latest/cpu?verb=x", badVerb, nil},
			{"GET", "/panic", 500, nil},
			{"GET", "/healthz", 200, []string{"-"}},
			{"GET", "/metrics", 200, nil},
			{"GET", "/backup", 200, nil},
			{"GET", "/live", 200, nil},
			{"POST", "/overrides", 400, nil},
			{"OPTIONS", "/keys", 200, []string{"-"}},
			{"OPTIONS", "/nosuch", 200, []string{"-"}},
			{"OPTIONS", "/latest/cpu", 200, []string{"Origin: https://x"}},
		} {
			a := w.do(t, c.method, c.path, "", c.headers...)
			if a.status != c.status {
				t.Errorf("%s %s: %d, want %d", c.method, c.path, a.status, c.status)
			}
			methods, headers := "GET, HEAD, POST, PUT, DELETE, OPTIONS",
				"X-AUTH-TOKEN, X-CSRF-Token, Authorization, Content-Type, Last-Event-ID, Cache-Control"
			expose, maxAge := "Retry-After, Location", ""
			if c.method == "OPTIONS" {
				maxAge = "600"
			}
			if compat != "" {
				expose, maxAge = "", ""
				methods, headers = "GET, POST, PUT, DELETE", "X-AUTH-TOKEN, X-CSRF-Token"
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin":   "https://dash.example",
				"Access-Control-Allow-Methods":  methods,
				"Access-Control-Allow-Headers":  headers,
				"Access-Control-Expose-Headers": expose,
				"Access-Control-Max-Age":        maxAge,
				"Cache-Control":                 "no-store",
				"Content-Security-Policy":       "default-src 'none'; frame-ancestors 'none'",
				"Referrer-Policy":               "no-referrer",
				"X-Content-Type-Options":        "nosniff",
			} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s %s (%d): %s: %q, want %q", c.method, c.path, a.status, name, got, want)
				}
			}
		}
	}
}

func TestOptions(t *testing.T) {
	w := startWorld(t, nil)
	for path, allow := range map[string]string{
		"/keys":         "GET, HEAD, OPTIONS",
		"/keys/":        "GET, HEAD, OPTIONS",
		"/overrides":    "GET, HEAD, POST, OPTIONS",
		"/overrides/17": "DELETE, OPTIONS",
		"/nosuch":       "OPTIONS",
		"/latest/a%2Fb": "GET, HEAD, OPTIONS",
	} {
		a := w.do(t, "OPTIONS", path, "", "-")
		a.want(t, 200, `{"msg":"Success"}`+"\n")
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", path, got, allow)
		}
	}
	// OPTIONS * is about the server as a whole.
	raw(t, w, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").contains(t, 200, "Success")
}
