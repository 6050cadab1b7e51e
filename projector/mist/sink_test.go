package mist_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/mist/misttest"
)

func TestMistPublishes(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{}).start()
		synctest.Wait()
		if s := r.Status(); !s.Connected || s.LastError != "" || s.Since.IsZero() {
			t.Fatalf("status %+v", s)
		}
		r.apply(1, 3)
		synctest.Wait()
		r.wantValues(1, 2, 3)
		m := server.Published()[0]
		if want := []string{"host:host0", "metrics", "service:web1", "stat_0"}; !slices.Equal(m.Tags, want) || m.Data != "1" {
			t.Errorf("mist got %+v", m)
		}
		r.wantMetric(1, "connected")
		r.wantMetric(0, "queued")
		// Records without readings are skipped, and what comes late from a relay's spool.
		late := &codec.Event{Relay: "host0", Time: time.Now().UnixNano(), Past: true, Collectors: []codec.Collector{{Name: "late", Stats: []codec.Stat{{ID: "late", Value: 9}}}}}
		for _, rec := range []journal.Record{{Seq: 8, Event: late}, {Seq: 9, Relay: &codec.RelayEvent{}}, {Seq: 10, Err: errors.New("unreadable")}} {
			if position, err := r.Apply(t.Context(), []journal.Record{rec}); position != rec.Seq || err != nil {
				t.Errorf("Apply returned %d, %v", position, err)
			}
		}
		if position, err := r.Tick(t.Context(), time.Now()); position != 10 || err != nil || r.Name() != "mist" {
			t.Errorf("Tick returned %d, %v", position, err)
		}
		r.stop()
		r.wantMetric(0, "connected")
		r.wantMetric(3, "published_total")
		if s := r.Status(); s.Connected || s.LastError == "" {
			t.Errorf("status %+v", s)
		}
		if got := server.Commands(); !slices.Equal(got, []string{"ping", "publish", "ping"}) {
			t.Errorf("mist was told %v", got)
		}
	})
}

// The format is that of Pulse 0.2 for its own relays.
func TestMistDecimals(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{Decimals: 4}).start()
		r.applyValues(0.763, 2, -1.00007, 1e15)
		synctest.Wait()
		var got []string
		for _, m := range server.Published() {
			got = append(got, m.Data)
		}
		if want := []string{"0.7630", "2.0000", "-1.0001", "1000000000000000.0000"}; !slices.Equal(got, want) {
			t.Errorf("mist got %q, want %q", got, want)
		}
		r.stop()
	})
}

func TestMistToken(t *testing.T) {
	bubble(t, `se"cret`, func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{Token: `se"cret`}).start()
		r.apply(1, 1)
		synctest.Wait()
		r.wantValues(1)
		r.stop()
		if got := server.Commands(); !slices.Equal(got, []string{"auth", "ping", "publish", "ping"}) {
			t.Errorf("mist was told %v", got)
		}
	})
}

func TestMistRefusesTheToken(t *testing.T) {
	for _, token := range []string{"", "wr0ng"} {
		bubble(t, "secret", func(t *testing.T, server *misttest.Mist) {
			r := newRig(t, server, mist.Options{Token: token}).start()
			r.apply(1, 1)
			sleep(10 * time.Second)
			s := r.Status()
			if s.Connected || !strings.Contains(s.LastError, "--mist-token") || token != "" && strings.Contains(s.LastError+r.log.String(), token) {
				t.Errorf("status %+v\n%s", s, r.log)
			}
			if n := server.Accepted(); n < 3 || n > 8 {
				t.Errorf("%d attempts in 10 s", n)
			}
			r.wantMetric(0, "connected")
			r.stop()
			r.wantValues()
		})
	}
}

// TestMistAbsent checks that, while mist is absent for an hour, the attempts become rare and the
// log stays short. When mist comes, only readings not older than MaxAge are sent.
func TestMistAbsent(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Refuse(true)
		var tries atomic.Int64
		r := newRig(t, server, mist.Options{Address: "mist:1445", MaxAge: 30 * time.Second, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			tries.Add(1)
			return server.Dial(ctx, addr)
		}}).start()
		for i := range 360 {
			r.apply(i, 1)
			sleep(10 * time.Second)
			if _, err := r.Tick(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
			if s := r.Status(); s.Connected || !strings.Contains(s.LastError, "--mist-address") || s.Queued > 3 {
				t.Fatalf("status %+v", s)
			}
		}
		attempts := int(tries.Load())
		if attempts < 700 || attempts > 1000 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		if n := r.log.Count("level=WARN"); n < 50 || n > 61 {
			t.Errorf("%d warnings in an hour", n)
		}
		server.Refuse(false)
		sleep(5 * time.Second)
		r.wantValues(358, 359) // these readings are 15 s and 25 s old now
		r.wantMetric(358, "dropped_total", "old")
		r.wantMetric(int(tries.Load())-1, "failures_total")
		r.wantMetric(0, "reconnects_total")
		if r.log.Count("connected to mist") != 1 {
			t.Errorf("the log does not say that mist is there:\n%s", r.log)
		}
		r.stop()
	})
}

func TestMistConnectionLost(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Refuse(true)
		r := newRig(t, server, mist.Options{}).start()
		sleep(30 * time.Second)
		server.Refuse(false)
		sleep(time.Minute)
		failures := r.metric("failures_total")
		server.Kick()
		synctest.Wait()
		if s := r.Status(); s.Connected || !strings.Contains(s.LastError, "closed the connection") {
			t.Errorf("status %+v", s)
		}
		r.apply(1, 2)
		sleep(300 * time.Millisecond) // the first pause is short again
		r.wantValues(1, 2)
		r.wantMetric(1, "reconnects_total")
		r.wantMetric(failures+1, "failures_total")
		r.stop()
	})
}

// TestMistClosesEveryConnection checks that the sink does not connect in a tight loop when mist
// answers and then closes every connection.
func TestMistClosesEveryConnection(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Script(func(c *misttest.Conn) { _ = c.Serve(1) })
		r := newRig(t, server, mist.Options{}).start()
		sleep(time.Minute)
		if n := server.Accepted(); n < 10 || n > 20 {
			t.Errorf("%d connections in a minute", n)
		}
		if n := r.log.Count("\n"); n > 5 {
			t.Errorf("%d lines of log in a minute:\n%s", n, r.log)
		}
		r.stop()
	})
}

// TestMistStaysConnected checks that the connection survives a day without readings.
func TestMistStaysConnected(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		r := newRig(t, server, mist.Options{}).start()
		sleep(24 * time.Hour)
		if s := r.Status(); !s.Connected || server.Accepted() != 1 {
			t.Errorf("status %+v after %d connections", s, server.Accepted())
		}
		r.stop()
	})
}

// floodHalf is half of the bytes that mist may send between two pings.
const floodHalf = 512 << 10

func TestMistQueueIsFull(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		server.Refuse(true)
		r := newRig(t, server, mist.Options{Queue: 10}).start()
		r.apply(1, 25)
		if s := r.Status(); s.Queued != 10 {
			t.Errorf("status %+v", s)
		}
		r.wantMetric(15, "dropped_total", "full")
		server.Refuse(false)
		sleep(time.Second)
		r.wantValues(numbers(16, 25)...)
		r.stop()
	})
}

// TestMistRunnerIsBehind checks that events are not sent if they were already old when the runner
// read them from the journal.
func TestMistRunnerIsBehind(t *testing.T) {
	bubble(t, "", func(t *testing.T, server *misttest.Mist) {
		var ahead atomic.Int64
		ahead.Store(int64(31 * time.Second))
		r := newRig(t, server, mist.Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}).start()
		r.apply(1, 3)
		ahead.Store(int64(29 * time.Second))
		r.apply(4, 1)
		synctest.Wait()
		r.wantValues(4)
		r.wantMetric(3, "dropped_total", "old")
		r.stop()
	})
}

func TestMistError(t *testing.T) {
	cause := errors.New("cause")
	for op, want := range map[string]string{"dial": "--mist-address", "greet": "is it a mist", "write": "tried again"} {
		err := error(&mist.Error{Op: op, Addr: "mist:1445", Err: cause})
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mist:1445") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestMistOptions(t *testing.T) {
	for _, o := range []mist.Options{
		{}, {Address: "mist"}, {Address: "mist:1445", MaxAge: -1}, {Address: "mist:1445", Queue: -1},
	} {
		if _, err := mist.New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
