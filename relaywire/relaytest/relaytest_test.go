package relaytest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve accepts connections until the test ends and gives each to handle in a goroutine of its own.
// It closes a connection when handle returns.
func serve(t *testing.T, handle func(conn net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestConnPlaysAScript(t *testing.T) {
	heard := make(chan string, 16)
	addr := serve(t, func(conn net.Conn) {
		in := bufio.NewScanner(conn)
		fmt.Fprint(conn, "ok\nbeat 30\ntakes past\nget early\nok\nget cpu,ram\n")
		for in.Scan() {
			heard <- in.Text()
			if strings.HasPrefix(in.Text(), "got") {
				fmt.Fprint(conn, "error enough\n")
				return
			}
		}
	})
	c := relaytest.Connect(t, addr, "web1", "secret")
	c.Add("cpu", "service:web1", "guy")
	if names := c.Poll("cpu-cpu:1", "ram-free:2"); strings.Join(names, "+") != "cpu+ram" {
		t.Errorf("polled for %q", names)
	}
	if last := c.ExpectClosed(); len(last) != 1 || last[0] != "error enough" {
		t.Errorf("last words %q", last)
	}
	for _, want := range []string{"id web1 secret", "add cpu:service:web1,guy", "got cpu-cpu:1,ram-free:2"} {
		if got := <-heard; got != want {
			t.Errorf("the server heard %q, want %q", got, want)
		}
	}
}

// pollServer welcomes relays, polls each as fast as it answers, and keeps the answers.
type pollServer struct {
	readings, wrong, conns atomic.Uint64
	limit                  uint64 // polls per connection
	get                    string
	hangUp                 bool
}

func (p *pollServer) handle(conn net.Conn) {
	p.conns.Add(1)
	lines := relaywire.NewReader(conn)
	if m, err := lines.Read(); err != nil || m.Verb != relaywire.VerbID {
		return
	}
	fmt.Fprint(conn, "ok\nbeat 30\ntakes past\n")
	stats := map[string]float64{}
	for polls := uint64(0); ; {
		m, err := lines.Read()
		if err != nil {
			return
		}
		switch m.Verb {
		case relaywire.VerbAdd:
			fmt.Fprint(conn, "ok\n")
			if string(m.Args) == "c1:" { // the last one
				fmt.Fprint(conn, p.get)
			}
		case relaywire.VerbGot:
			for r := range relaywire.Readings(m.Args) {
				p.readings.Add(1)
				var stat int
				if _, err := fmt.Sscanf(string(r.Stat), "stat_%d", &stat); err != nil || r.Err != nil {
					p.wrong.Add(1)
				}
				// Consecutive polls differ by exactly one: nothing is sent twice and nothing is
				// left out.
				if last, ok := stats[string(r.Stat)]; ok && r.Value != last+1 || r.Value < float64(stat)*1e6 {
					p.wrong.Add(1)
				}
				stats[string(r.Stat)] = r.Value
			}
			if polls++; polls < p.limit {
				fmt.Fprint(conn, p.get)
			} else if p.hangUp {
				return
			}
		}
	}
}

func TestFleetAnswersWhatATestCanPredict(t *testing.T) {
	p := &pollServer{limit: 5, get: "get c1,nothing,c0\n"}
	addr := serve(t, p.handle)
	var hooks atomic.Uint64
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: 20, Stats: 11, Collectors: 2, OnPoll: func(_ int, poll uint64) {
		if poll < 1 || poll > 5 {
			t.Errorf("poll %d", poll)
		}
		hooks.Add(1)
	}})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	eventually(t, "all polls are answered", func() bool { return f.Polls() == 20*5 })
	eventually(t, "all readings arrive", func() bool { return p.readings.Load() == 20*5*11 })
	if f.Sent() != 20*5*11 || p.wrong.Load() != 0 || f.Connected() != 20 || f.Disconnects() != 0 {
		t.Errorf("sent %d, %d wrong, %d connected, %d disconnects", f.Sent(), p.wrong.Load(), f.Connected(), f.Disconnects())
	}
	eventually(t, "the hook is called for each poll", func() bool { return hooks.Load() == 20*5 })
	f.Stop()
	f.Stop()
	if f.Connected() != 0 || f.Disconnects() != 0 {
		t.Errorf("after Stop: %d connected, %d disconnects", f.Connected(), f.Disconnects())
	}
}

func TestFleetComesBack(t *testing.T) {
	p := &pollServer{limit: 2, get: "get c0,c1\n", hangUp: true}
	addr := serve(t, p.handle)
	lost := make(chan error, 1000)
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: 3, Collectors: 2, Reconnect: true, OnDisconnect: func(_ int, err error) {
		select {
		case lost <- err:
		default:
		}
	}})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	eventually(t, "each relay was back twice", func() bool { return f.Connects() >= 9 && f.Polls() >= 18 })
	if err := <-lost; err == nil || f.Err() == nil {
		t.Error("no reason was given for the lost connection")
	}
	if p.wrong.Load() != 0 {
		t.Errorf("%d wrong readings: the polls are not counted on after a reconnect", p.wrong.Load())
	}
}

func TestFleetStartFails(t *testing.T) {
	addr := serve(t, func(conn net.Conn) {
		bufio.NewReader(conn).ReadString('\n')
		fmt.Fprint(conn, "error bad token\n")
	})
	if err := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: 5}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "bad token") {
		t.Errorf("refused relays: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: 5, Reconnect: true})
	failed := make(chan error, 1)
	go func() { failed <- f.Start(ctx) }()
	eventually(t, "a relay was refused", func() bool { return f.Err() != nil })
	cancel()
	err := <-failed
	if err == nil || !strings.Contains(err.Error(), "bad token") || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("refused relays that go on trying: %v", err)
	}
	relaytest.NewFleet(relaytest.FleetOptions{Addr: addr}).Stop()
}

func TestFleetPings(t *testing.T) {
	pinged := make(chan struct{})
	addr := serve(t, func(conn net.Conn) {
		in := bufio.NewScanner(conn)
		in.Scan()
		fmt.Fprint(conn, "ok\nbeat 0.02\nerror one series too many\nflush\noverride 1 c0:1\n")
		pings, oks := 0, 0
		for in.Scan() {
			switch in.Text() {
			case "ping":
				pings++
				fmt.Fprint(conn, "pong\n")
			case "ok":
				oks++
			}
			if pings == 3 && oks == 2 {
				close(pinged)
			}
		}
	})
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	select {
	case <-pinged:
	case <-time.After(time.Minute):
		t.Error("no three pings and two oks within a minute")
	}
	if err := f.Err(); f.Complaints() != 1 || f.Disconnects() != 0 || err == nil || !strings.Contains(err.Error(), "one series too many") {
		t.Errorf("%d complaints, %d disconnects, %v", f.Complaints(), f.Disconnects(), err)
	}
}

// TestFleetFinish: every reading that was counted as sent arrives, although the server polls all
// the time.
func TestFleetFinish(t *testing.T) {
	const relays = 20
	var arrived atomic.Uint64
	asked := make(chan struct{}, relays)
	addr := serve(t, func(conn net.Conn) {
		in := bufio.NewScanner(conn)
		in.Scan()
		fmt.Fprint(conn, "ok\n")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for in.Scan() {
				if strings.HasPrefix(in.Text(), "got ") {
					arrived.Add(1)
				}
			}
		}()
		for n := 0; ; n++ {
			select {
			case <-ended:
				return
			default:
			}
			if n == 100 {
				asked <- struct{}{}
			}
			fmt.Fprint(conn, "get c0\n")
		}
	})
	f := relaytest.NewFleet(relaytest.FleetOptions{Addr: addr, N: relays})
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range relays {
		<-asked
	}
	f.Finish()
	if sent := f.Polls(); arrived.Load() < sent || sent == 0 || f.Disconnects() != 0 {
		t.Errorf("%d answers of %d arrived, %d disconnects", arrived.Load(), sent, f.Disconnects())
	}
}
