package main

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestHostileNATS does everything to a real server's NATS listener that clients without the token,
// and clients with it, can do. A well-behaved client beside them hears of every poll, no relay
// loses a poll, and the server's memory stays bounded.
func TestHostileNATS(t *testing.T) {
	t.Parallel()
	n := fromEnvironment(t, hostileRelays, 1000)
	lasts := 8*time.Second + time.Duration(n)*2*time.Millisecond
	door := freeport.Of(t)
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "5", "-l", "WARN", "--nats-listen-address", door)

	guest, err := nats.Connect(door, nats.UserInfo("pulse", "secret"), nats.NoReconnect(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				t.Errorf("the well-behaved client was disconnected: %v", err)
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	var heard atomic.Uint64
	if _, err := guest.Subscribe("pulse.readings.>", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "pulse.readings.relay-") {
			heard.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := guest.Flush(); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 50, Stats: 10})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	h := newHostiles(t, door, "secret")
	h.start(n/2, time.Second, h.hear) // and sends nothing
	h.start(n/50, time.Second, func(c net.Conn) { h.say(c, connect("wrong")); h.hear(c) })
	h.start(n/50, time.Second, func(c net.Conn) { h.say(c, gibberish()); h.hear(c) })
	h.start(5, time.Second, func(c net.Conn) { h.say(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"); h.hear(c) })
	h.start(5, time.Second, func(c net.Conn) { h.endless(c, "CONNECT {") })
	h.start(5, time.Second, func(c net.Conn) { h.endless(c, "PUB a 1000000000\r\n") })
	// With the token.
	h.start(5, time.Second, func(c net.Conn) { h.endless(c, connect("secret")) })
	h.start(5, time.Second, func(c net.Conn) { h.say(c, connect("secret")+"PUB $JS.API.INFO 1000000\r\n"); h.endless(c, "x") })
	h.start(5, time.Second, func(c net.Conn) {
		h.say(c, connect("secret")+"PUB pulse.readings.x 2\r\n{}\r\nSUB > 1\r\nSUB $SYS.> 2\r\n")
		h.hear(c)
	})
	h.start(5, time.Second, func(c net.Conn) { // subscribes without end
		text := connect("secret")
		for i := 0; h.say(c, text); i++ {
			text = fmt.Sprintf("SUB pulse.live.x%d.> %d\r\n", i, i)
		}
	})
	h.start(5, time.Second, func(c net.Conn) { // sends requests and does not read
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		h.say(c, connect("secret")+"SUB _INBOX.x 1\r\n")
		for h.say(c, strings.Repeat("PUB $JS.API.STREAM.INFO.PULSE _INBOX.x 0\r\n\r\n", 10)) {
			select {
			case <-h.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	<-time.After(lasts) // the attack lasts this long

	if err := s.Post("/overrides", `{"duration":3600,"collectors":{"c0":3600}}`); err != nil {
		t.Error(err)
	}
	await(t, s, "every poll is answered", time.Minute, func() error { return compareWithFleet(s, fleet, 0) })
	await(t, s, "every poll is heard of", time.Minute, func() error {
		if got, want := heard.Load(), fleet.Polls(); got != want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
	if polls := fleet.Polls(); polls < 50*uint64(lasts/(5*time.Second)) {
		t.Errorf("50 relays were polled %d times in %v", polls, lasts)
	}
	h.stop()
	log := s.Log()
	for _, reason := range []string{"password", "permission", "payload", "protocol", "subscriptions"} {
		await(t, s, reason+" is counted", time.Minute, func() error {
			v, err := s.Metric("pulse_journal_outside_refused_total", fmt.Sprintf("reason=%q", reason))
			if err == nil && v == 0 {
				err = errors.New("it is not")
			}
			return err
		})
		if n := len(regexp.MustCompile(`an outside client was refused" .*reason=`+reason).FindAllString(log, -1)); n < 1 || n > 3 {
			t.Errorf("%d log lines about %s, want one a minute", n, reason)
		}
	}
	_, peak, err := s.RSS()
	if err != nil {
		t.Fatal(err)
	}
	if peak > hostileMemory {
		t.Errorf("the server took %d MiB", peak>>20)
	}
	t.Logf("%d polls heard of beside %d connections; the server took %d MiB at most", heard.Load(), h.connections.Load(), peak>>20)
}

// connect returns the line with which a NATS client logs in.
func connect(password string) string {
	return fmt.Sprintf("CONNECT {\"verbose\":false,\"user\":\"pulse\",\"pass\":%q}\r\n", password)
}
