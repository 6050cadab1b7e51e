package outside

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/internal/guesses"
)

// A client that sends more than all clients together may is disconnected and refused for a while. A
// client that was already connected stays.
func TestOutsideFlood(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	appendN(t, j, "web1", 0, 1)
	other := client(t, j)
	raw := dialRaw(t, j)
	m := newMeter(j.current())
	m.sent = rate.NewLimiter(100, 100)
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
	if value(t, j.m.refused.WithLabelValues("flood")) == 0 {
		t.Error("it is not counted")
	}
	if n := stream(t, other).CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the other client sees %d events", n)
	}
	now := time.Now()
	b := j.admission.banned
	from := guesses.Origin("127.0.0.1:1")
	if !b.holds(from, now) || b.holds(from, now.Add(banTime)) || b.holds(from, now.Add(-time.Hour)) {
		t.Error("it is kept out for another time")
	}
}

// Guesses of passwords are limited as guesses of API tokens are. Meanwhile known addresses and this
// machine are let in.
func TestOutsideGuesses(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	check := func(from netip.Prefix, now time.Time, user, password string) bool {
		return j.admission.check(from, now, user, password) == guesses.Everything
	}
	now := time.Now()
	from := guesses.Origin("203.0.113.7:1")
	known := guesses.Origin("203.0.113.8:1")
	if !check(known, now, "pulse", outsidePassword) {
		t.Fatal("the right one is refused")
	}
	for i := range guesses.Limit {
		for range 5 {
			if check(from, now, "pulse", "") || check(known, now, "pulse", "") {
				t.Error("no password passes")
			}
		}
		if check(from, now, "pulse", fmt.Sprint("guess", i)) || check(known, now, "other", outsidePassword) {
			t.Error("a wrong one passes")
		}
	}
	if check(from, now, "pulse", "one too many") || check(from, now, "pulse", outsidePassword) {
		t.Error("after too many it is looked at")
	}
	if !check(known, now, "pulse", outsidePassword) {
		t.Error("one that is known is shut out")
	}
	if !check(from, now.Add(guesses.Pause), "pulse", outsidePassword) {
		t.Error("a minute later the right one is refused")
	}
	for range 2 * guesses.Limit {
		if _, err := tryClient(j, nats.UserInfo("pulse", "wrong")); !errors.Is(err, nats.ErrAuthorization) {
			t.Fatal(err)
		}
	}
	client(t, j)
	if value(t, j.m.refused.WithLabelValues("guesses")) == 0 {
		t.Error("they are not counted")
	}
}

// A pull that asks for more than is passed on at a time gets an error.
func TestOutsidePullTooLarge(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	nc := client(t, j)
	for body, want := range map[string]string{`{"batch":5001}`: "409", "5001": "409", "-1": "400", "x": "400", `{"batch":1,"idle_heartbeat":100000000}`: "400"} {
		m, err := nc.Request("$JS.API.CONSUMER.MSG.NEXT.PULSE.x", []byte(body), 10*time.Second)
		if err != nil || m.Header.Get("Status") != want {
			t.Errorf("%s: %v %v", body, m, err)
		}
	}
}

// If all clients together receive more than they may, every client that receives more than its
// share is disconnected. A client below its share stays. Otherwise 256 subscriptions to everything
// on each of 64 connections would make 16,384 copies of an event before the next one is written.
func TestOutsideHeardTooMuch(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	honest, greedy := client(t, j), []*rawClient{dialRaw(t, j), dialRaw(t, j)}
	heard, err := honest.SubscribeSync("pulse.readings.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := honest.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, g := range greedy {
		for i := range DefaultSubscriptions {
			if _, err := fmt.Fprintf(g, "SUB pulse.> %d\r\n", i); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := g.Write([]byte("PING\r\n")); err != nil {
			t.Fatal(err)
		}
		g.expect("PONG")
	}
	m := newMeter(j.current())
	m.heard = rate.NewLimiter(100, 100)
	m.measure(time.Now())
	appendN(t, j, "web1", 0, 2)
	for range 2 {
		if _, err := heard.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both greedy clients have been sent all of it", func() bool {
		conns, err := m.r.Server.Connz(&server.ConnzOptions{Account: accountClients})
		if err != nil {
			t.Fatal(err)
		}
		all := 0
		for _, c := range conns.Conns {
			if c.OutMsgs >= 2*DefaultSubscriptions {
				all++
			}
		}
		return all == len(greedy)
	})
	m.measure(time.Now())
	for _, g := range greedy {
		g.closed()
	}
	appendN(t, j, "web1", 2, 1)
	if _, err := heard.NextMsg(10 * time.Second); err != nil {
		t.Error("the honest client hears no more:", err)
	}
	if value(t, j.m.refused.WithLabelValues("flood")) != 2 {
		t.Error("they are not counted")
	}
}

// A client that pulls as much as it may through its own consumers does not make other clients wait.
func TestOutsideFairShare(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	appendMany(t, j, 100)
	greedy := client(t, j)
	s := stream(t, greedy)
	for i := range 5 {
		c, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Minute, MaxWaiting: maxWaiting})
		if err != nil {
			t.Fatal(err)
		}
		sub, err := greedy.SubscribeSync(fmt.Sprint("_INBOX.greedy.", i))
		if err != nil {
			t.Fatal(err)
		}
		for range 300 { // 1,500 pulls of 5,000 take more than six minutes
			if err := greedy.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.PULSE."+c.CachedInfo().Name, sub.Subject, []byte(`{"batch":5000,"expires":1000000000}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := greedy.Flush(); err != nil {
		t.Fatal(err)
	}
	c, err := stream(t, client(t, j)).CreateConsumer(patient(t), archive)
	if err != nil {
		t.Fatal(err)
	}
	if seqs := take(t, c, 100); seqs[99] != 100 { // within 30 s, otherwise the test fails
		t.Error(seqs)
	}
}

// Turns go first to the owner who asked for the least. One owner's turns keep their order.
func TestTurns(t *testing.T) {
	turns := newTurns(1, 1)
	var got []string
	ask := func(owner string, cost int) bool {
		name := fmt.Sprint(owner, cost)
		return turns.wait(owner, cost, func() { got = append(got, name) })
	}
	serve := func(n int) {
		for range n {
			next, ok := turns.next()
			if !ok {
				t.Fatal("nobody waits")
			}
			next.take()
		}
	}
	for i := range 3 {
		ask("greedy", 1000+i)
	}
	serve(1)
	ask("small", 10)
	ask("small", 11)
	ask("middle", 500)
	serve(5)
	if want := []string{"greedy1000", "small10", "small11", "middle500", "greedy1001", "greedy1002"}; !slices.Equal(got, want) {
		t.Error(got)
	}
	if _, ok := turns.next(); ok || len(turns.lines) != 0 {
		t.Error("something is left")
	}
	for i := range maxTurnsOne + 1 {
		if ok := ask("one", 1); ok != (i < maxTurnsOne) || turns.full.Load() {
			t.Fatalf("the %dth of one: %v", i, ok)
		}
	}
	for i := range maxTurns - maxTurnsOne + 1 {
		if ok := ask(fmt.Sprint("other", i), 1); ok != (i < maxTurns-maxTurnsOne) {
			t.Fatalf("the %dth of others: %v", i, ok)
		}
	}
	if !turns.full.Load() {
		t.Error("nobody is told that it is full")
	}
}
