package query

import "testing"

// TestTokenAndOriginChange changes the token and the CORS origin while the server runs.
func TestTokenAndOriginChange(t *testing.T) {
	w := startWorld(t, func(o *Options) { o.Token = "one" })
	w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: one").want(t, 200, "pong")
	w.SetTokens("two", "")
	w.SetCORS("https://dash.example.org")
	if a := w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: one"); a.status != 401 {
		t.Errorf("the old token: %d", a.status)
	}
	a := w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: two")
	a.want(t, 200, "pong")
	if origin := a.header.Get("Access-Control-Allow-Origin"); origin != "https://dash.example.org" {
		t.Errorf("the origin is %q", origin)
	}
	w.SetCORS("")
	if origin := w.do(t, "GET", "/ping", "", "X-AUTH-TOKEN: two").header.Get("Access-Control-Allow-Origin"); origin != "*" {
		t.Errorf("without one the origin is %q", origin)
	}
}
