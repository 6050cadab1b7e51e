package query

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
)

// from sends a request with a token, or with none if token is empty, as if it came from the address
// remote.
func (w *world) from(remote, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	r.RemoteAddr = remote
	if token != "" {
		r.Header.Set(tokenName, token)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

// An address that guesses is refused, and its tokens are not checked any more. Other addresses are
// not affected.
func TestGuessedTokens(t *testing.T) {
	var log bytes.Buffer
	now := testNow
	w := newWorld(t, func(o *Options) {
		o.Now = func() time.Time { return now }
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	want := func(remote, token string, status int) *httptest.ResponseRecorder {
		t.Helper()
		a := w.from(remote, "/ping", token)
		if a.Code != status {
			t.Fatalf("%s with %q: %d %s, want %d", remote, token, a.Code, a.Body, status)
		}
		return a
	}
	const guesser, same, neighbour, dashboard = "203.0.113.7:1000", "203.0.113.7:2000", "203.0.113.8:1000", "198.51.100.1:1"
	want(dashboard, testToken, 200)
	for i := range guesses.Limit {
		want(guesser, fmt.Sprint("guess", i), 401)
		want(dashboard, fmt.Sprint("guess", i), 401)
		want(guesser, "", 401) // a missing token is no guess
	}
	now = now.Add(10 * time.Second)
	a := want(guesser, "one too many", 429)
	if got := a.Header(); got.Get("Retry-After") != "60" || got.Get("Connection") != "close" || !strings.Contains(a.Body.String(), "wait 60 s") {
		t.Errorf("%v %s", got, a.Body)
	}
	now = now.Add(20 * time.Second)
	if a := want(same, testToken, 429); a.Header().Get("Retry-After") != "40" {
		t.Errorf("after 20 s: %v", a.Header())
	}
	want(same, "", 401)
	if a := w.from(same, "/nosuch", "x"); a.Code != 429 {
		t.Errorf("a route that is not there: %d", a.Code)
	}
	if a := w.from(same, "/healthz", ""); a.Code != 200 {
		t.Errorf("/healthz: %d", a.Code)
	}
	want(neighbour, testToken, 200)
	// A guesser does not lock out a known client that shares its router, nor this machine.
	want(dashboard, "one too many", 429)
	want(dashboard, testToken, 200)
	for range 2 * guesses.Limit {
		w.from("127.0.0.1:1000", "/ping", "wrong")
	}
	if a := want("127.0.0.1:1000", "wrong", 429); !strings.Contains(a.Body.String(), "too many wrong tokens came from your address; the right one is taken at any time") {
		t.Errorf("this machine is told %s", a.Body)
	}
	want("127.0.0.1:1000", testToken, 200)
	now = now.Add(guesses.Pause - 20*time.Second)
	want(guesser, "wrong again", 401)
	want(guesser, testToken, 200)
	// If the clock steps back, no address is refused for longer.
	for range guesses.Limit + 1 {
		w.from(neighbour+"0", "/ping", "wrong")
	}
	now = now.Add(-time.Hour)
	want(neighbour+"0", testToken, 200)

	if n := value(t, w.metrics.guesses.WithLabelValues("token")); n < 5 {
		t.Errorf("%v refused requests are counted", n)
	}
	if n := strings.Count(log.String(), "too many wrong tokens"); n != 1 {
		t.Errorf("%d log lines:\n%s", n, log.String())
	}
}

func TestGuessedTickets(t *testing.T) {
	w := newWorld(t, nil)
	w.Start()
	const remote = "[2001:db8::1]:1"
	ticket, _, err := w.tickets.issue(testNow)
	if err != nil {
		t.Fatal(err)
	}
	for range guesses.Limit {
		if a := w.from(remote, "/live?ticket=wrong", ""); a.Code != 401 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	// The same /64 network is the same guesser. Its guesses of tickets do not count against its
	// token.
	for _, from := range []string{remote, "[2001:db8::ffff:1]:7"} {
		for _, name := range []string{"wrong", ticket} {
			if a := w.from(from, "/live?ticket="+name, ""); a.Code != 429 || !strings.Contains(a.Body.String(), "too many wrong tickets") {
				t.Errorf("ticket %s: %d %s", name, a.Code, a.Body)
			}
		}
		if a := w.from(from, "/ping", testToken); a.Code != 200 {
			t.Errorf("the token: %d %s", a.Code, a.Body)
		}
	}
	if n := value(t, w.metrics.guesses.WithLabelValues(ticketName)); n != 4 {
		t.Errorf("%v refused requests are counted", n)
	}
	if a := w.from("[2001:db8:0:1::1]:1", "/live?ticket=wrong", ""); a.Code != 401 {
		t.Errorf("another /64: %d", a.Code)
	}
	w.get(t, "/live?ticket=wrong").contains(t, 200, "readings") // together with the right token
}

func TestGuessesInCompat(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Compat = Compat02 })
	for range guesses.Limit {
		w.from("192.0.2.1:1", "/ping", "wrong")
	}
	if a := w.from("192.0.2.1:1", "/ping", "wrong"); a.Code != 429 || a.Body.Len() != 0 || a.Header().Get("Retry-After") != "60" {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}
