package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal/codec"
)

func names(r Relay) string {
	var out []string
	for _, c := range r.Collectors {
		out = append(out, c.Name+fmt.Sprint(c.Tags))
	}
	return strings.Join(out, " ")
}

func TestRegistrySurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu:service:web1,guy", "ram", "disk")
		p.want("get cpu,ram,disk")
		p.send("got cpu:1")
		settle()
		seen := w.relay("web1").LastSeen
		w.stop()

		w.start()
		r := w.relay("web1")
		if r.Connected || r.RemoteAddr != "" || !r.ConnectedAt.IsZero() {
			t.Errorf("after a restart %+v, want it disconnected", r)
		}
		if got, want := names(r), "cpu[service:web1 guy] ram[] disk[]"; got != want {
			t.Errorf("collectors after a restart: %s, want %s", got, want)
		}
		if !r.LastSeen.Equal(seen) || seen.IsZero() {
			t.Errorf("LastSeen %v after a restart, want %v", r.LastSeen, seen)
		}
		w.wantMetric(0, "relays_connected")
		w.wantMetric(1, "relays_known")

		// The relay is polled at once for its stored collectors, before it adds any.
		p = w.connect("web1")
		start := time.Now()
		p.want("get cpu,ram,disk")
		if d := time.Since(start); d > 0 {
			t.Errorf("polled %v after it came back, want at once", d)
		}
		p.send("got cpu:1,ram:2,disk:3")
		p.add("cpu:service:web1,guy", "ram") // not disk
		settle()
		if got := w.relay("web1").Collectors; len(got) != 3 {
			t.Errorf("%d collectors before the interval is over, want 3", len(got))
		}
		for time.Since(start) < 61*time.Second {
			select {
			case line := <-p.lines:
				if strings.HasPrefix(line, "get") {
					p.send("got cpu:1,ram:2,disk:3")
				}
			case <-time.After(time.Second):
				p.send("ping")
			}
		}
		settle()
		if got, want := names(w.relay("web1")), "cpu[service:web1 guy] ram[]"; got != want {
			t.Errorf("collectors an interval after it came back: %s, want %s", got, want)
		}
		w.wantMetric(1, "collectors_dropped_total")
		want := []string{"connected", "added:cpu", "added:ram", "added:disk", "disconnected:stopped", "connected", "removed:disk"}
		if got := w.journal.kinds("web1"); !slices.Equal(got, want) {
			t.Errorf("relay events %v, want %v: what is added again is no news", got, want)
		}
	})
}

func TestReconnectIsPolledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a")
		p.want("get a") // unanswered; a new connection does not wait for that answer
		p.conn.Close()
		settle()
		if r := w.relay("web1"); r.Connected {
			t.Errorf("%+v, want it disconnected", r)
		}
		p = w.connect("web1")
		p.want("get a")
		w.wantMetric(0, "polls_skipped_total")
		w.wantMetric(1, "disconnections_total", "reason", endLost)
	})
}

// TestCleanCloseLeavesNothing: a relay that has never answered and removes its collectors is not
// remembered. A relay that has answered is: see TestCleanlyStoppedRelayIsRemembered.
func TestCleanCloseLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a", "b")
		time.Sleep(time.Second)
		p.want("get a,b")
		p.send("remove a", "remove b", "close")
		p.want("ok")
		p.want("ok")
		p.wantClosed()
		settle()
		if got := w.srv.Relays(); len(got) != 0 {
			t.Errorf("Relays lists %v, want nothing: it took everything back", got)
		}
		time.Sleep(time.Second)
		w.stop()
		w.start()
		if got := w.srv.Relays(); len(got) != 0 {
			t.Errorf("after a restart Relays lists %v", got)
		}
	})
}

func TestSecondConnectionWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		first := w.connect("web1")
		first.add("a")
		first.want("get a")
		second := w.connect("web1")
		first.want("error replaced: another connection came with the same id")
		first.wantClosed()
		second.want("get a")
		second.add("a", "b")
		second.send("got a:1,b:2")
		time.Sleep(90 * time.Second / 2)
		settle()
		r := w.relay("web1")
		if !r.Connected || names(r) != "a[] b[]" {
			t.Errorf("%+v, want it connected with a and b: the first connection's end must not touch it", r)
		}
		w.wantMetric(1, "relays_replaced_total")
		w.wantMetric(1, "relays_connected")
		want := []string{"connected", "added:a", "disconnected:replaced", "connected", "added:b"}
		if got := w.journal.kinds("web1"); !slices.Equal(got, want) {
			t.Errorf("relay events %v, want %v", got, want)
		}
	})
}

// from is a connection with a given remote address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return &net.UnixAddr{Name: f.addr, Net: "tcp"} }

// TestReplacedIsTold: if two hosts use one id, the log and Relays name both and say how often they
// have replaced each other. A single host that reconnects is logged differently.
func TestReplacedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logtest.Buffer{}
		w := newWorld(t, func(o *Options) {
			o.Logger, o.BeatInterval = slog.New(slog.NewTextHandler(log, nil)), time.Hour
		})
		connect := func(addr string) {
			t.Helper()
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, ours) // ends with the connection
			w.ln.conns <- from{theirs, addr}
			ours.Write([]byte("id web1\n"))
			settle()
		}
		check := func(addr, replacedAddr string, replaced uint64) {
			t.Helper()
			if r := w.relay("web1"); r.RemoteAddr != addr || r.Replaced != replaced || r.ReplacedAddr != replacedAddr {
				t.Errorf("%+v, want %s, which replaced %q, %d times", r, addr, replacedAddr, replaced)
			}
		}
		connect("10.0.0.7:1001")
		check("10.0.0.7:1001", "", 0)
		connect("10.0.0.7:1002")
		check("10.0.0.7:1002", "10.0.0.7:1001", 1)
		if log.Count("came back") != 1 || log.Count("two hosts") != 0 {
			t.Error("one host that came back is said to be two, or nothing is said")
		}
		connect("10.0.0.8:1003")
		check("10.0.0.8:1003", "10.0.0.7:1002", 2)
		if log.Count("two hosts use the same id") != 1 || log.Count("newer=10.0.0.8:1003 older=10.0.0.7:1002 times=2") != 1 {
			t.Error("two hosts with one id are not named")
		}
		connect("10.0.0.7:1004")
		check("10.0.0.7:1004", "10.0.0.8:1003", 3)
		time.Sleep(time.Minute)
		connect("10.0.0.8:1005")
		if log.Count("newer=10.0.0.8:1005") != 1 || log.Count("repeated=1") != 1 {
			t.Error("a minute later it is not said again")
		}
	})
}

// TestReplacedWhileStuck: the older connection never reads; the newer one is served at once.
func TestReplacedWhileStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		old := w.ln.dial()
		defer old.Close()
		old.Write([]byte("id web1\nadd a\n"))
		settle()
		start := time.Now()
		p := w.connect("web1")
		p.want("get a")
		if d := time.Since(start); d > pollGrid {
			t.Errorf("the newer connection waited %v for the older", d)
		}
		time.Sleep(20 * time.Second)
		settle()
		if _, err := old.Write([]byte("ping\n")); err == nil {
			t.Error("the older connection is still open after 20 s")
		}
	})
}

func TestDuplicateStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		other := w.connect("other")
		other.add("a")
		other.want("get a")
		const storm = 200
		for range storm {
			go func() {
				c := w.ln.dial()
				defer c.Close()
				c.Write([]byte("id same\nadd a\n"))
				buf := make([]byte, 1024)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
		settle()
		w.wantMetric(storm-1, "relays_replaced_total")
		w.wantMetric(2, "relays_connected")
		if r := w.relay("same"); !r.Connected || names(r) != "a[]" {
			t.Errorf("%+v, want the last one connected", r)
		}
		var connected int
		for _, k := range w.journal.kinds("same") {
			switch {
			case k == "connected":
				connected++
			case strings.HasPrefix(k, "disconnected"):
				connected--
			}
			if connected < 0 || connected > 1 {
				t.Fatal("connected and disconnected do not alternate")
			}
		}
		other.send("got a:1")
		settle()
		w.wantMetric(1, "readings_total")
	})
}

func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Limits.Known, o.Limits.KnownFor = 3, time.Hour })
		for i := range 5 {
			p := w.connect(fmt.Sprintf("relay-%d", i))
			p.add("a")
			p.conn.Close()
			settle()
			time.Sleep(time.Second)
		}
		ids := func() (out []string) {
			for _, r := range w.srv.Relays() {
				out = append(out, r.ID)
			}
			return out
		}
		if got, want := ids(), []string{"relay-2", "relay-3", "relay-4"}; !slices.Equal(got, want) {
			t.Errorf("remembered %v, want %v: the latest three", got, want)
		}
		w.wantMetric(2, "relays_forgotten_total")
		// A relay that reconnects is no longer counted; its age starts at its last disconnect.
		time.Sleep(50 * time.Minute)
		p := w.connect("relay-3")
		p.conn.Close()
		settle()
		time.Sleep(15 * time.Minute)
		settle()
		if got, want := ids(), []string{"relay-3"}; !slices.Equal(got, want) {
			t.Errorf("remembered %v after an hour, want %v", got, want)
		}
		w.stop()
		w.start()
		if got, want := ids(), []string{"relay-3"}; !slices.Equal(got, want) {
			t.Errorf("remembered %v after a restart, want %v", got, want)
		}
		// Relays whose time ended while the server was down are forgotten after the restart.
		w.stop()
		time.Sleep(2 * time.Hour)
		w.start()
		time.Sleep(sweepEvery / 2)
		if got, want := ids(), []string{"relay-3"}; !slices.Equal(got, want) {
			t.Errorf("remembered %v just after a late restart, want %v: it could not connect before", got, want)
		}
		time.Sleep(sweepEvery)
		if got := ids(); len(got) != 0 {
			t.Errorf("remembered %v after a late restart, want nothing", got)
		}
	})
}

func TestRelayEventsDoNotHoldSessionsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		j := &fakeJournal{relayEvent: func(_ context.Context, e *codec.RelayEvent) error { <-block; return nil }}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		p := w.connect("web1")
		p.add("a", "b")
		p.want("get a,b")
		p.send("got a:1")
		settle()
		w.wantMetric(1, "readings_total")
		close(block)
		settle()
		if got, want := j.kinds("web1"), []string{"connected", "added:a", "added:b"}; !slices.Equal(got, want) {
			t.Errorf("relay events %v, want %v in that order", got, want)
		}
	})
}

func TestRelayEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		j := &fakeJournal{relayEvent: func(_ context.Context, e *codec.RelayEvent) error { <-block; return nil }}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		for range maxEvents + 10 {
			w.srv.env.events.put(codec.RelayEvent{Relay: "web1"}, nil)
		}
		w.wantMetric(10, "relay_events_lost_total")
		close(block)
		settle()
		if got := len(j.kinds("web1")); got != maxEvents {
			t.Errorf("%d events arrived, want %d", got, maxEvents)
		}
	})
}

func TestRelayEventFailuresAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &fakeJournal{relayEvent: func(context.Context, *codec.RelayEvent) error { return errors.New("disk full") }}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		p := w.connect("web1")
		p.add("a")
		settle()
		w.wantMetric(2, "relay_events_lost_total")
	})
}

// TestRegistryUnderFire connects, disconnects and replaces relays and adds and removes collectors
// at random, and checks the invariants at every moment.
func TestRegistryUnderFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval, o.Limits.Known = time.Second, 3 })
		rng := rand.New(rand.NewPCG(7, 8))
		stop := make(chan struct{})
		var open []*peer
		for range 2000 {
			switch n := rng.IntN(10); {
			case n < 3:
				p := w.dial()
				go p.answer(stop)
				p.conn.Write([]byte(fmt.Sprintf("id relay-%d\n", rng.IntN(10))))
				open = append(open, p)
			case len(open) == 0:
			case n < 7:
				open[rng.IntN(len(open))].conn.Write([]byte(fmt.Sprintf("add c%d\n", rng.IntN(5))))
			case n < 8:
				open[rng.IntN(len(open))].conn.Write([]byte(fmt.Sprintf("remove c%d\n", rng.IntN(5))))
			case n < 9:
				i := rng.IntN(len(open))
				open[i].conn.Close()
				open = slices.Delete(open, i, i+1)
			default:
				time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
			}
			settle()
			checkRegistry(t, w)
		}
		close(stop)
	})
}

func checkRegistry(t *testing.T, w *world) {
	t.Helper()
	g := w.srv.registry
	g.mu.Lock()
	connected := 0
	var wrong []string
	for id, r := range g.relays {
		r.mu.Lock()
		if r.conn != nil {
			connected++
		}
		if (r.conn == nil) != (r.gone != nil) {
			wrong = append(wrong, fmt.Sprintf("%s: connected %v, among the gone %v", id, r.conn != nil, r.gone != nil))
		}
		series := 0
		for _, c := range r.collectors.list {
			series += c.series()
			if r.collectors.find([]byte(c.name.Value())) != c || r.collectors.list[c.place] != c {
				wrong = append(wrong, fmt.Sprintf("%s: collector %s is not found by its name", id, c.name.Value()))
			}
		}
		if cs := &r.collectors; cs.byName != nil && len(cs.byName) != len(cs.list) || series != cs.series {
			wrong = append(wrong, fmt.Sprintf("%s: %d collectors, %d by name; %d series, %d counted", id, len(cs.list), len(cs.byName), series, cs.series))
		}
		r.mu.Unlock()
	}
	if connected != g.connected || g.gone.Len() > 3 || g.gone.Len()+connected != len(g.relays) {
		wrong = append(wrong, fmt.Sprintf("%d relays, %d connected, %d counted, %d gone", len(g.relays), connected, g.connected, g.gone.Len()))
	}
	g.mu.Unlock()
	if len(wrong) > 0 {
		t.Fatal(strings.Join(wrong, "\n"))
	}
}
