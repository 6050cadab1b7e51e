package journal

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/internal/guesses"
)

// Who sends more than all clients together may is disconnected and kept out for a while; a client that was there stays.
func TestOutsideFlood(t *testing.T) {
	j := openOutside(t, Options{})
	appendN(t, j, "web1", 0, 1)
	other := client(t, j)
	raw := dialRaw(t, j)
	m := &meter{d: j.runs.current().door, sent: rate.NewLimiter(100, 100)}
	m.measure(time.Now())
	if _, err := raw.Write(bytes.Repeat([]byte("PUB $JS.ACK.PULSE.nobody.1.1.1.1.0 4\r\n+ACK\r\n"), 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	raw.expect("PONG")
	m.measure(time.Now())
	raw.closed()
	if _, err := tryClient(j); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a moment later it is told %v", err)
	}
	if value(t, j.m.outsideRefused.WithLabelValues("flood")) == 0 {
		t.Error("it is not counted")
	}
	if n := stream(t, other).CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the other client sees %d events", n)
	}
	now := time.Now()
	b := j.o.strangers.admission.banned
	from := guesses.Origin("127.0.0.1:1")
	if !b.holds(from, now) || b.holds(from, now.Add(banTime)) || b.holds(from, now.Add(-time.Hour)) {
		t.Error("it is kept out for another time")
	}
}

// Passwords are guessed at the pace at which tokens of the API are. Who is known, and this machine, is let in meanwhile.
func TestOutsideGuesses(t *testing.T) {
	j := openOutside(t, Options{})
	a := j.o.strangers.admission
	now := time.Now()
	from := guesses.Origin("203.0.113.7:1")
	known := guesses.Origin("203.0.113.8:1")
	if !a.check(known, now, "pulse", outsidePassword) {
		t.Fatal("the right one is refused")
	}
	for i := range guesses.Limit {
		for range 5 {
			if a.check(from, now, "pulse", "") || a.check(known, now, "pulse", "") {
				t.Error("no password passes")
			}
		}
		if a.check(from, now, "pulse", fmt.Sprint("guess", i)) || a.check(known, now, "other", outsidePassword) {
			t.Error("a wrong one passes")
		}
	}
	if a.check(from, now, "pulse", "one too many") || a.check(from, now, "pulse", outsidePassword) {
		t.Error("after too many it is looked at")
	}
	if !a.check(known, now, "pulse", outsidePassword) {
		t.Error("one that is known is shut out")
	}
	if !a.check(from, now.Add(guesses.Pause), "pulse", outsidePassword) {
		t.Error("a minute later the right one is refused")
	}
	for range 2 * guesses.Limit {
		if _, err := tryClient(j, nats.UserInfo("pulse", "wrong")); !errors.Is(err, nats.ErrAuthorization) {
			t.Fatal(err)
		}
	}
	client(t, j)
	if value(t, j.m.outsideRefused.WithLabelValues("guesses")) == 0 {
		t.Error("they are not counted")
	}
}

// A pull that asks for more than is passed on at a time is told so.
func TestOutsidePullTooLarge(t *testing.T) {
	j := openOutside(t, Options{})
	nc := client(t, j)
	for body, want := range map[string]string{`{"batch":5001}`: "409", "5001": "409", "-1": "400", "x": "400", `{"batch":1,"idle_heartbeat":100000000}`: "400"} {
		m, err := nc.Request("$JS.API.CONSUMER.MSG.NEXT.PULSE.x", []byte(body), 10*time.Second)
		if err != nil || m.Header.Get("Status") != want {
			t.Errorf("%s: %v %v", body, m, err)
		}
	}
}
