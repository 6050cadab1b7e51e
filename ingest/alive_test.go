package ingest

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// crash stops the server but keeps the state file of this moment, as a kill would, and starts
// another server after down.
func (w *world) crash(down time.Duration) {
	w.t.Helper()
	settle()
	left := w.path + "'"
	err := w.db.View(func(tx *bolt.Tx) error { return tx.CopyFile(left, 0o600) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.stop()
	w.path = left
	time.Sleep(down)
	w.start()
}

// wantSeen checks that a relay is not connected and was last heard at the given time, with a
// tolerance of aliveEvery and a second.
func (w *world) wantSeen(id string, at time.Time) {
	w.t.Helper()
	r := w.relay(id)
	if off := at.Sub(r.LastSeen); r.Connected || off < 0 || off > aliveEvery+time.Second {
		w.t.Errorf("%s: connected %v, last seen %v before %v", id, r.Connected, off, at)
	}
}

// hold answers the relay's polls for a while.
func (p *peer) hold(d time.Duration) {
	stop := make(chan struct{})
	time.AfterFunc(d, func() { close(stop) })
	p.answer(stop)
}

// TestCrashKeepsWhatWasTrue: after a server that ran for long was killed, the next server knows
// when each relay was last heard and since when it has not been connected.
func TestCrashKeepsWhatWasTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval, o.Limits.KnownFor = 5*time.Second, 4*time.Hour })
		w.gone("gone")
		gone := time.Now()
		w.gone("web1") // an older connection of web1
		time.Sleep(time.Hour)
		p := w.connect("web1")
		p.send("add cpu")
		mute := w.connect("mute")
		mute.add("cpu")
		mute.want("get cpu")
		mute.send("got cpu:1")
		heard := time.Now()
		go func() { // the relay pings, and answers no more polls
			for tick := time.NewTicker(20 * time.Second); ; <-tick.C {
				if _, err := mute.conn.Write([]byte("ping\n")); err != nil {
					tick.Stop()
					return
				}
			}
		}()
		p.hold(2 * time.Hour)
		crashed := time.Now()
		w.crash(time.Minute)
		w.wantSeen("web1", crashed)
		w.wantSeen("gone", gone)
		if d := heard.Sub(w.relay("mute").LastSeen); d < -time.Second || d > time.Second {
			t.Errorf("mute: last seen %v before its last reading", d)
		}

		// A second crash before any relay has reconnected.
		time.Sleep(30 * time.Second)
		w.crash(0)
		w.wantSeen("web1", crashed)
		// The relays are forgotten four hours after they left, and not before.
		time.Sleep(2 * time.Hour)
		if got := w.relays(); !slices.Equal(got, []string{"mute", "web1"}) {
			t.Errorf("Relays lists %v, want those that were connected when the server died", got)
		}
		time.Sleep(2*time.Hour - 10*time.Minute)
		if got := w.relays(); len(got) != 2 {
			t.Errorf("Relays lists %v within four hours", got)
		}
		time.Sleep(10 * time.Minute)
		if got := w.relays(); len(got) != 0 {
			t.Errorf("Relays lists %v after four hours", got)
		}
	})
}

// TestCrashAfterARelayLeft: the record of a relay that left is newer than the times that are stored
// for connected relays.
func TestCrashAfterARelayLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, before := range []time.Duration{0, 100 * time.Millisecond, time.Second, aliveEvery, time.Minute} {
			w := newWorld(t, nil)
			p := w.connect("web1")
			p.add("cpu")
			p.want("get cpu")
			p.send("got cpu:1")
			time.Sleep(20*time.Second + 3*time.Second)
			p.conn.Close()
			left := time.Now()
			settle()
			time.Sleep(before)
			w.crash(time.Hour)
			g := w.srv.registry
			g.mu.Lock()
			at := g.relays["web1"].goneAt
			g.mu.Unlock()
			if off := left.Sub(at); off < -time.Second || off > aliveEvery+time.Second {
				t.Errorf("crash %v after it left: gone since %v before it left", before, off)
			}
			w.stop()
		}
	})
}

// TestOldStateFile: a state file of a release that did not store who is connected is read as that
// release read it.
func TestOldStateFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.stop()
		for _, alive := range []string{"", "{torn", `{"v":9}`} {
			db, err := bolt.Open(w.path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bolt.Tx) error {
				r, _ := tx.CreateBucketIfNotExists(relaysBucket)
				a, _ := tx.CreateBucketIfNotExists(aliveBucket)
				if alive != "" {
					if err := a.Put(aliveKey, []byte(alive)); err != nil {
						return err
					}
				} else if err := tx.DeleteBucket(aliveBucket); err != nil {
					return err
				}
				return r.Put([]byte("web1"), []byte(`{"v":1,"collectors":[{"name":"a"}],"last":1000000000}`))
			})
			if err == nil {
				err = db.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			w.start()
			r := w.relay("web1")
			if r.Connected || r.LastSeen.Unix() != 1 {
				t.Errorf("%q: %+v", alive, r)
			}
			time.Sleep(6 * 24 * time.Hour)
			if len(w.relays()) != 1 {
				t.Errorf("%q: it was forgotten", alive)
			}
			w.stop()
		}
	})
}

// TestNobodyConnectedWritesNothing: a server without relays does not write to the disk.
func TestNobodyConnectedWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		writes := func() int64 { s := w.db.Stats(); return s.TxStats.GetWrite() }
		time.Sleep(time.Minute)
		settle()
		before := writes()
		time.Sleep(time.Hour)
		settle()
		if n := writes() - before; n != 0 {
			t.Errorf("%d writes in an hour without a relay", n)
		}
	})
}

// TestAliveIsRetried: while the state file cannot be written, the failure is logged once, and the
// times that are stored later are right.
func TestAliveIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := newWorld(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		p := w.connect("web1")
		p.add("cpu")
		p.want("get cpu")
		p.send("got cpu:1")
		time.Sleep(time.Second)
		settle()
		healthy := w.db
		setDB := func(db *bolt.DB) {
			settle()
			w.srv.keeper.store.mu.Lock()
			w.srv.keeper.store.db = db
			w.srv.keeper.store.mu.Unlock()
			w.srv.env.changes.wake <- struct{}{} // wakes the store's goroutine, which then sees db
			settle()
		}
		setDB(closedDB(t))
		p.hold(time.Minute)
		setDB(healthy)
		p.hold(time.Minute)
		if n := strings.Count(log.String(), "the registry "); n != 2 {
			t.Errorf("%d lines, want one of the failure and one of its end:\n%s", n, log.String())
		}
		crashed := time.Now()
		w.crash(0)
		if d := crashed.Sub(w.relay("web1").LastSeen); d > time.Minute+aliveEvery {
			t.Errorf("last seen %v before the crash", d)
		}
	})
}
