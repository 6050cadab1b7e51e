package ingest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// polls counts the get lines within d that ask for the collector. It answers each get line and
// pings.
func (p *peer) polls(collector string, d time.Duration) (n int, other []string) {
	p.t.Helper()
	end := time.After(d)
	ping := time.NewTicker(20 * time.Second)
	defer ping.Stop()
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatal("the connection was closed")
			}
			asked, ok := strings.CutPrefix(line, "get ")
			if !ok {
				if line != "pong" {
					other = append(other, line)
				}
				continue
			}
			if slices.Contains(strings.Split(asked, ","), collector) {
				n++
			}
			p.send("got " + strings.ReplaceAll(asked, ",", ":1,") + ":1")
		case <-ping.C:
			p.send("ping")
		case <-end:
			return n, other
		}
	}
}

func mustOverride(t *testing.T, w *world, d time.Duration, collectors map[string]time.Duration, relays ...string) Override {
	t.Helper()
	o, err := w.srv.Override(t.Context(), OverrideRequest{Duration: d, Collectors: collectors, Relays: relays})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func every(name string, d time.Duration) map[string]time.Duration {
	return map[string]time.Duration{name: d}
}

func TestOverrideHoldsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p, other := w.connect("web1"), w.connect("web2")
		p.add("cpu", "ram")
		other.add("cpu")
		stop := make(chan struct{})
		defer close(stop)
		go other.answer(stop)
		p.polls("", time.Second)
		o := mustOverride(t, w, 120*time.Second, every("cpu", 5*time.Second), "web1", "nobody")
		if !slices.Equal(o.Relays, []string{"web1"}) || o.Until.Sub(o.Created) != 120*time.Second {
			t.Errorf("made %+v, want it for web1 and two minutes", o)
		}
		if got := w.relay("web1").Collectors; time.Duration(got[0].Interval) != 5*time.Second || time.Duration(got[1].Interval) != time.Minute {
			t.Errorf("intervals %v, want 5s for cpu and 1m0s for ram", got)
		}
		if got := w.relay("web2").Collectors; time.Duration(got[0].Interval) != time.Minute {
			t.Errorf("intervals of a relay it is not for: %v", got)
		}
		n, lines := p.polls("cpu", 119*time.Second)
		if n < 23 || n > 25 {
			t.Errorf("cpu was polled %d times in 119 s at 5 s", n)
		}
		if !slices.Equal(lines, []string{"override 120 cpu:5"}) {
			t.Errorf("the relay was told %q", lines)
		}
		p.polls("", 2*time.Second)
		if n, _ := p.polls("cpu", 10*time.Minute); n != 10 {
			t.Errorf("cpu was polled %d times in 10 minutes after the override, want 10", n)
		}
		if n := len(w.srv.Overrides()); n != 0 {
			t.Errorf("%d overrides are listed after the end", n)
		}
		want := []string{"connected", "added:cpu", "added:ram", "override:cpu"}
		if got := w.journal.kinds("web1"); !slices.Equal(got, want) {
			t.Errorf("relay events %v, want %v", got, want)
		}
	})
}

func TestOverrideLeavesOthersInPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu", "ram")
		p.polls("", time.Second)
		mustOverride(t, w, time.Hour, every("cpu", 5*time.Second))
		if n, _ := p.polls("ram", 10*time.Minute); n != 10 {
			t.Errorf("ram was polled %d times in 10 minutes beside an override of cpu, want 10", n)
		}
		w.wantMetric(0, "polls_skipped_total") // collectors that are due together are polled by one line
	})
}

func TestOverrideSurvivesReconnectAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		p.send("got cpu:1")
		made := mustOverride(t, w, 100*time.Second, map[string]time.Duration{"cpu": 2 * time.Second, "ram": 3 * time.Second})
		p.want("override 100 cpu:2,ram:3")
		time.Sleep(10 * time.Second)
		p.conn.Close()
		settle()

		p = w.connect("web1")
		p.want("override 90 cpu:2,ram:3")
		if n, _ := p.polls("cpu", 20*time.Second); n < 10 || n > 11 {
			t.Errorf("%d polls in 20 s after a reconnect, want one every 2 s", n)
		}
		// A relay that connects after the override was made never gets it.
		late := w.connect("web2")
		late.add("cpu")
		late.want("get cpu")
		late.send("got cpu:1") // otherwise Stop waits for the answer
		if got := time.Duration(w.relay("web2").Collectors[0].Interval); got != time.Minute {
			t.Errorf("a relay that came later is polled every %v", got)
		}
		w.stop()
		time.Sleep(10 * time.Second)
		w.start()

		got := w.srv.Overrides()
		if len(got) != 1 || got[0].ID != made.ID || !got[0].Until.Equal(made.Until) || !slices.Equal(got[0].Relays, made.Relays) || got[0].Collectors["ram"] != 3*time.Second {
			t.Fatalf("overrides after a restart %+v, want %+v", got, made)
		}
		p = w.connect("web1")
		p.want("override 60 cpu:2,ram:3")
		if n, _ := p.polls("cpu", 59*time.Second); n < 29 || n > 31 {
			t.Errorf("%d polls in 59 s after a restart, want one every 2 s", n)
		}
		late = w.connect("web2")
		late.want("get cpu")
		late.send("got cpu:1")
		late.wantSilence(time.Second)
		// An override that ends while the server is down is removed, also from the state file.
		w.stop()
		time.Sleep(10 * time.Second)
		w.start()
		if got := w.srv.Overrides(); len(got) != 0 {
			t.Errorf("overrides %v after their end", got)
		}
		w.db.View(func(tx *bolt.Tx) error {
			if n := tx.Bucket(overridesBucket).Stats().KeyN; n != 0 {
				t.Errorf("%d ended overrides are still stored", n)
			}
			return nil
		})
	})
}

func TestNewerOverrideHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu")
		p.polls("", time.Second)
		older := mustOverride(t, w, time.Hour, every("cpu", 10*time.Second))
		time.Sleep(time.Millisecond)
		newer := mustOverride(t, w, time.Hour, every("cpu", 20*time.Second))
		interval := func() time.Duration { return time.Duration(w.relay("web1").Collectors[0].Interval) }
		if got := interval(); got != 20*time.Second {
			t.Errorf("polled every %v, want what the newer says", got)
		}
		if got := w.srv.Overrides(); len(got) != 2 || got[0].ID != newer.ID {
			t.Errorf("Overrides lists %v, want the newest first", got)
		}
		p.conn.Close()
		settle()
		p = w.connect("web1")
		p.want("override 3600 cpu:10")
		p.want("override 3600 cpu:20") // the last override is the one that counts
		if err := w.srv.CancelOverride(newer.ID); err != nil {
			t.Fatal(err)
		}
		if got := interval(); got != 10*time.Second {
			t.Errorf("polled every %v, want what the older says again", got)
		}
		if err := w.srv.CancelOverride(older.ID); err != nil {
			t.Fatal(err)
		}
		_, lines := p.polls("", time.Second)
		want := []string{"override 1 cpu:60", "override 3600 cpu:10", "override 1 cpu:60"}
		if !slices.Equal(lines, want) {
			t.Errorf("the relay was told %q, want %q", lines, want)
		}
		if got := interval(); got != time.Minute {
			t.Errorf("polled every %v after both were cancelled", got)
		}
		err := w.srv.CancelOverride(older.ID)
		var typed *Error
		if !errors.Is(err, ErrNotFound) || !errors.As(err, &typed) || typed.Subject != older.ID {
			t.Errorf("cancelling twice: %v, want ErrNotFound about its id", err)
		}
		w.stop()
		w.start()
		if got := w.srv.Overrides(); len(got) != 0 {
			t.Errorf("cancelled overrides are back after a restart: %v", got)
		}
	})
}

// TestSlowOverrideEndsOnTime: an override that makes polls rarer must not delay the first poll
// after its end.
func TestSlowOverrideEndsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
		p := w.connect("web1")
		p.add("cpu")
		p.polls("", time.Second)
		mustOverride(t, w, time.Hour, every("cpu", time.Hour))
		p.polls("", time.Hour)
		if n, _ := p.polls("cpu", 11*time.Second); n == 0 {
			t.Error("no poll within an interval of the override's end")
		}
		o := mustOverride(t, w, time.Hour, every("cpu", time.Hour))
		p.polls("", time.Minute)
		if err := w.srv.CancelOverride(o.ID); err != nil {
			t.Fatal(err)
		}
		if n, _ := p.polls("cpu", 11*time.Second); n == 0 {
			t.Error("no poll within an interval of the override's cancellation")
		}
	})
}

func TestOverrideRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ok := OverrideRequest{Duration: time.Minute, Collectors: every("cpu", time.Second)}
		if _, err := w.srv.Override(t.Context(), ok); !errors.Is(err, ErrNotConnected) {
			t.Errorf("nobody connected: %v, want ErrNotConnected", err)
		}
		p := w.connect("web1")
		p.add("cpu")
		for name, c := range map[string]struct {
			req     OverrideRequest
			err     error
			subject string
		}{
			"no duration":        {OverrideRequest{Collectors: every("cpu", time.Second)}, ErrInvalid, "duration"},
			"half a second":      {OverrideRequest{Duration: 1500 * time.Millisecond, Collectors: every("cpu", time.Second)}, ErrInvalid, "duration"},
			"negative":           {OverrideRequest{Duration: -time.Minute, Collectors: every("cpu", time.Second)}, ErrInvalid, "duration"},
			"too long":           {OverrideRequest{Duration: MaxOverride + time.Second, Collectors: every("cpu", time.Second)}, ErrInvalid, "duration"},
			"no collectors":      {OverrideRequest{Duration: time.Minute}, ErrInvalid, "collectors"},
			"no interval":        {OverrideRequest{Duration: time.Minute, Collectors: every("cpu", 0)}, ErrInvalid, "cpu"},
			"fraction":           {OverrideRequest{Duration: time.Minute, Collectors: every("cpu", time.Second/2)}, ErrInvalid, "cpu"},
			"interval > time":    {OverrideRequest{Duration: time.Minute, Collectors: every("cpu", time.Hour)}, ErrInvalid, "cpu"},
			"reserved character": {OverrideRequest{Duration: time.Minute, Collectors: every("a-b", time.Second)}, ErrInvalid, "a-b"},
			"unknown collector":  {OverrideRequest{Duration: time.Minute, Collectors: every("gpu", time.Second)}, ErrInvalid, ""},
			"unknown relay":      {OverrideRequest{Duration: time.Minute, Collectors: every("cpu", time.Second), Relays: []string{"web9"}}, ErrNotConnected, ""},
		} {
			_, err := w.srv.Override(t.Context(), c.req)
			var typed *Error
			if !errors.Is(err, c.err) || !errors.As(err, &typed) || typed.Subject != c.subject || typed.Op != "override" {
				t.Errorf("%s: %v, want %v about %q", name, err, c.err, c.subject)
			}
		}
		if n := len(w.srv.Overrides()); n != 0 {
			t.Errorf("refused requests left %d overrides", n)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.srv.Override(ended, ok); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		for range MaxOverrides {
			mustOverride(t, w, time.Minute, every("cpu", time.Second))
		}
		if _, err := w.srv.Override(t.Context(), ok); !errors.Is(err, ErrTooMany) {
			t.Errorf("one more than the limit: %v, want ErrTooMany", err)
		}
		time.Sleep(2 * time.Minute)
		w.connect("web1")
		mustOverride(t, w, time.Minute, every("cpu", time.Second)) // ended overrides do not count
		w.stop()
		if _, err := w.srv.Override(t.Context(), ok); !errors.Is(err, ErrStopped) {
			t.Errorf("after Stop: %v, want ErrStopped", err)
		}
		if err := w.srv.CancelOverride("x"); !errors.Is(err, ErrStopped) {
			t.Errorf("cancelling after Stop: %v, want ErrStopped", err)
		}
	})
}

// TestOverrideIsStoredBeforeItHolds: an override that cannot be stored does not take effect.
func TestOverrideIsStoredBeforeItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		o := mustOverride(t, w, time.Hour, every("cpu", 30*time.Second))
		p.want("override 3600 cpu:30")
		w.srv.env.overrides.db = closedDB(t)
		if _, err := w.srv.Override(t.Context(), OverrideRequest{Duration: time.Hour, Collectors: every("cpu", time.Second)}); !errors.Is(err, berrors.ErrDatabaseNotOpen) {
			t.Errorf("Override on a broken state file: %v", err)
		}
		if err := w.srv.CancelOverride(o.ID); !errors.Is(err, berrors.ErrDatabaseNotOpen) {
			t.Errorf("CancelOverride on a broken state file: %v", err)
		}
		p.wantSilence(time.Second)
		if got := w.srv.Overrides(); len(got) != 1 || got[0].ID != o.ID {
			t.Errorf("overrides %v, want the stored one", got)
		}
		w.srv.env.overrides.db = w.db
	})
}

func closedDB(t testing.TB) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(t.TempDir()+"/closed.db", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	return db
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.connect("a"), w.connect("b")
		gone := w.connect("gone")
		gone.add("x")
		gone.conn.Close()
		settle()
		if n := w.srv.Flush(nil); n != 2 {
			t.Errorf("Flush of all told %d, want 2", n)
		}
		a.want("flush")
		b.want("flush")
		if n := w.srv.Flush([]string{"b", "gone", "nobody"}); n != 1 {
			t.Errorf("Flush of b told %d, want 1", n)
		}
		b.want("flush")
		a.wantSilence(time.Second)
	})
}

// TestCancelIsJournaledForAbsentRelays: projections learn of a cancellation for a relay that has
// not connected since the restart. For a forgotten relay there is no further event.
func TestCancelIsJournaledForAbsentRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for _, id := range []string{"a", "b"} {
			p := w.connect(id)
			p.add("cpu")
			p.want("get cpu")
			defer p.conn.Close()
		}
		o := mustOverride(t, w, time.Hour, every("cpu", 90*time.Second))
		w.stop()
		w.start()
		if err := w.srv.Forget(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		if err := w.srv.CancelOverride(o.ID); err != nil {
			t.Fatal(err)
		}
		settle()
		if got, want := w.journal.kinds("a"), []string{"connected", "added:cpu", "override:cpu", "disconnected:stopped", "override:cpu"}; !slices.Equal(got, want) {
			t.Errorf("relay events of a: %v, want %v", got, want)
		}
		if got := w.journal.kinds("b"); got[len(got)-1] != "forgotten:by request" {
			t.Errorf("relay events of b: %v", got)
		}
	})
}
