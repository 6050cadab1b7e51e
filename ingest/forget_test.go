package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
)

// gone connects a relay that answers once and then loses its connection.
func (w *world) gone(id string) {
	w.t.Helper()
	p := w.connect(id)
	p.add("cpu")
	p.want("get cpu")
	p.send("got cpu:1")
	settle()
	p.conn.Close()
	settle()
}

// storedRelays returns the ids in the state file.
func (w *world) storedRelays() (ids []string) {
	w.t.Helper()
	err := w.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(relaysBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error { ids = append(ids, string(k)); return nil })
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func (w *world) relays() (ids []string) {
	for _, r := range w.srv.Relays() {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestForgetRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ids := []string{"a", "web/1 50%", "it's"}
		for _, id := range ids {
			w.gone(id)
			time.Sleep(time.Second)
			if err := w.srv.Forget(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			// The relay is removed at once, not at the store's next write.
			if got := w.storedRelays(); slices.Contains(got, id) {
				t.Errorf("%s is still stored", id)
			}
			if got := w.relays(); len(got) != 0 {
				t.Errorf("Relays lists %v", got)
			}
			want := []string{"connected", "added:cpu", "disconnected:lost", "forgotten:by request"}
			if got := w.journal.kinds(id); !slices.Equal(got, want) {
				t.Errorf("relay events %v, want %v", got, want)
			}
		}
		w.wantMetric(0, "relays_known")
		w.wantMetric(float64(len(ids)), "relays_forgotten_total")
		w.stop()
		w.start()
		if got := w.relays(); len(got) != 0 {
			t.Errorf("Relays lists %v after a restart", got)
		}

		// The relay comes back as a new one: it is not polled before it has added something.
		p := w.connect("a")
		p.wantSilence(10 * time.Second)
		p.add("cpu")
		p.want("get cpu")
		if got := w.journal.kinds("a")[4:]; !slices.Equal(got, []string{"connected", "added:cpu"}) {
			t.Errorf("relay events of the one that came back: %v", got)
		}
	})
}

// TestForgetRefusals: a relay that cannot be forgotten is left unchanged, and the error says what
// to do.
func TestForgetRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.gone("database1")
		p := w.connect("web1")
		for _, tt := range []struct {
			id   string
			is   error
			says string
		}{
			{"web1", ErrConnected, "connected from pipe: stop it first"},
			{"databse1", ErrNotFound, `did you mean "database1"?`},
			{"", ErrNotFound, "GET /relays"},
		} {
			err := w.srv.Forget(t.Context(), tt.id)
			if e, ok := errors.AsType[*Error](err); !ok || e.Subject != tt.id || !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Forget(%q): %v, want %v saying %q", tt.id, err, tt.is, tt.says)
			}
		}
		if got := w.relays(); !slices.Equal(got, []string{"database1", "web1"}) {
			t.Errorf("Relays lists %v", got)
		}
		p.send("ping")
		p.want("pong")
		w.stop()
		if err := w.srv.Forget(t.Context(), "database1"); !errors.Is(err, ErrStopped) {
			t.Errorf("after Stop: %v", err)
		}
	})
}

// TestForgetIsJournaledFirst: if the journal refuses the event, the relay is not forgotten, and
// Forget can be tried again.
func TestForgetIsJournaledFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		var fail func() error
		j := &fakeJournal{relayEvent: func(_ context.Context, e *codec.RelayEvent) error {
			if e.Kind == codec.RelayForgotten {
				return fail()
			}
			return nil
		}}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		w.gone("web1")
		fail = func() error { return full }
		if err := w.srv.Forget(t.Context(), "web1"); !errors.Is(err, full) {
			t.Errorf("with a full disk: %v", err)
		}
		slow := make(chan struct{})
		fail = func() error { <-slow; return nil }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.srv.Forget(ctx, "web1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a slow disk: %v", err)
		}
		if got := w.relays(); !slices.Equal(got, []string{"web1"}) {
			t.Errorf("Relays lists %v", got)
		}
		close(slow)
		settle()
		fail = func() error { return nil }
		if err := w.srv.Forget(t.Context(), "web1"); err != nil {
			t.Error(err)
		}
	})
}

// TestForgetWhileItConnects: a relay that reconnects while it is being forgotten stays.
func TestForgetWhileItConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held, free := make(chan struct{}), make(chan struct{})
		j := &fakeJournal{relayEvent: func(_ context.Context, e *codec.RelayEvent) error {
			if e.Kind == codec.RelayForgotten {
				close(held)
				<-free
			}
			return nil
		}}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		w.gone("web1")
		ended := make(chan error)
		go func() { ended <- w.srv.Forget(t.Context(), "web1") }()
		<-held
		p := w.connect("web1")
		p.want("get cpu")
		close(free)
		if err := <-ended; !errors.Is(err, ErrConnected) {
			t.Errorf("Forget: %v, want ErrConnected", err)
		}
		if r := w.relay("web1"); !r.Connected {
			t.Errorf("%+v, want it connected", r)
		}
		settle() // until the relay's events are written
		want := []string{"connected", "added:cpu", "disconnected:lost", "forgotten:by request", "connected"}
		if got := j.kinds("web1"); !slices.Equal(got, want) {
			t.Errorf("relay events %v, want %v", got, want)
		}
	})
}

// TestForgetEndsOverrides: an override continues for the other relays, even over a restart, and can
// be cancelled for them.
func TestForgetEndsOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.connect("a"), w.connect("b")
		for _, p := range []*peer{a, b} {
			p.add("cpu")
			p.want("get cpu")
			p.send("got cpu:1")
		}
		both := mustOverride(t, w, time.Hour, every("cpu", 30*time.Second))
		alone := mustOverride(t, w, time.Hour, every("cpu", 40*time.Second), "a")
		a.conn.Close()
		settle()
		if err := w.srv.Forget(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		check := func() {
			t.Helper()
			got := w.srv.Overrides()
			if len(got) != 1 || got[0].ID != both.ID || !slices.Equal(got[0].Relays, []string{"b"}) {
				t.Errorf("overrides %v, want %s for b alone and not %s", got, both.ID, alone.ID)
			}
		}
		check()
		w.stop()
		w.start()
		check()
		p := w.connect("a") // a new relay a
		p.add("cpu")
		p.want("get cpu")
		b = w.dial()
		b.send("id b")
		for _, line := range []string{"ok", "beat 30", "takes past", "override 3600 cpu:30", "get cpu"} {
			b.want(line)
		}
		b.send("got cpu:1", "add cpu")
		b.want("ok")
		w.gone("c")
		if err := w.srv.Forget(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		check()
		if err := w.srv.CancelOverride(both.ID); err != nil {
			t.Fatal(err)
		}
		b.want("override 1 cpu:60")
	})
}

// TestCancelAfterForget: the remaining relays get the cancellation, although the override has
// become another value since.
func TestCancelAfterForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a, b := w.connect("a"), w.connect("b")
		for _, p := range []*peer{a, b} {
			p.add("cpu")
			p.want("get cpu")
			p.send("got cpu:1")
		}
		o := mustOverride(t, w, time.Hour, every("cpu", time.Second))
		b.want("override 3600 cpu:1")
		a.conn.Close()
		settle()
		if err := w.srv.Forget(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if err := w.srv.CancelOverride(o.ID); err != nil {
			t.Fatal(err)
		}
		b.want("override 1 cpu:60")
		if d := time.Duration(w.relay("b").Collectors[0].Interval); d != time.Minute {
			t.Errorf("cpu is polled every %v after the override was cancelled", d)
		}
	})
}

// TestCleanlyStoppedRelayIsRemembered: a relay whose host was shut down is remembered like one
// whose host died, until somebody forgets it.
func TestCleanlyStoppedRelayIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		p.send("got cpu:1", "remove cpu", "close")
		p.want("ok")
		p.wantClosed()
		for range 2 {
			time.Sleep(time.Second)
			if r := w.relay("web1"); r.Connected || len(r.Collectors) != 0 || r.LastSeen.IsZero() {
				t.Errorf("%+v, want it not connected, without collectors", r)
			}
			w.stop()
			w.start()
		}
		if err := w.srv.Forget(t.Context(), "web1"); err != nil {
			t.Error(err)
		}
		if got := w.relays(); len(got) != 0 {
			t.Errorf("Relays lists %v", got)
		}
	})
}

// TestAutomaticForgettingIsJournaled: projections learn that a relay was forgotten also when the
// server decides it, and also when the time limit passed while the server was down.
func TestAutomaticForgettingIsJournaled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Limits.Known = 2 })
		for i := range 3 {
			w.gone(fmt.Sprintf("relay-%d", i))
			time.Sleep(time.Second)
		}
		last := func(id string) string { kinds := w.journal.kinds(id); return kinds[len(kinds)-1] }
		if got := last("relay-0"); got != "forgotten:more than 2 relays are not connected" {
			t.Errorf("the last event of relay-0 is %s", got)
		}
		w.stop()
		time.Sleep(7*24*time.Hour - sweepEvery - 1500*time.Millisecond)
		w.start()
		time.Sleep(sweepEvery + time.Second)
		settle()
		if got := last("relay-1"); got != "forgotten:not connected for 168h0m0s" {
			t.Errorf("the last event of relay-1 is %s", got)
		}
		if got := w.relays(); !slices.Equal(got, []string{"relay-2"}) {
			t.Errorf("Relays lists %v", got)
		}
		time.Sleep(2 * sweepEvery)
		if got := last("relay-2"); !strings.HasPrefix(got, "forgotten:") {
			t.Errorf("the last event of relay-2 is %s", got)
		}
	})
}

// TestForgottenComesAfterTheReadings: the forgotten event has a later time than the readings before
// it, even if the clock was set back.
func TestForgottenComesAfterTheReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back time.Duration
		w := newWorld(t, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(-back) } })
		w.gone("web1")
		back = time.Hour
		if err := w.srv.Forget(t.Context(), "web1"); err != nil {
			t.Fatal(err)
		}
		w.journal.mu.Lock()
		defer w.journal.mu.Unlock()
		if last := w.journal.relays[len(w.journal.relays)-1]; last.Time < w.journal.events[0].Time {
			t.Errorf("forgotten at %d, the last reading is of %d", last.Time, w.journal.events[0].Time)
		}
	})
}
