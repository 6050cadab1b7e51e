package ingest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

func TestCrashedServerRemembersWhoWasConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a")
		time.Sleep(time.Second) // the store has written by now
		stored := map[string][]byte{}
		w.db.View(func(tx *bolt.Tx) error {
			return tx.Bucket(relaysBucket).ForEach(func(k, v []byte) error {
				stored[string(k)] = slices.Clone(seal.Open(v))
				return nil
			})
		})
		if got, want := string(stored["web1"]), `{"v":1,"collectors":[{"name":"a"}]}`; got != want {
			t.Errorf("stored while connected: %s, want %s", got, want)
		}
	})
}

// TestWriteBehindCoalesces: two hundred relays with ten adds each need only a few transactions.
func TestWriteBehindCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		writes := func() int64 { s := w.db.Stats(); return s.TxStats.GetWrite() }
		before := writes()
		for i := range 200 {
			p := w.connect(fmt.Sprintf("relay-%d", i))
			p.add("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
		}
		time.Sleep(10 * time.Second)
		settle()
		if n := writes() - before; n > 400 {
			t.Errorf("%d page writes for 200 relays that came at once, want a few dozen", n)
		}
		n := 0
		w.db.View(func(tx *bolt.Tx) error { n = tx.Bucket(relaysBucket).Stats().KeyN; return nil })
		if n != 200 {
			t.Errorf("%d relays are stored, want 200", n)
		}
	})
}

func TestUnreadableStateIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a")
		time.Sleep(time.Second)
		w.stop()
		db, err := bolt.Open(w.path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			r, _ := tx.CreateBucketIfNotExists(relaysBucket)
			o, _ := tx.CreateBucketIfNotExists(overridesBucket)
			return errors.Join(r.Put([]byte("torn"), []byte(`{"v":1,"coll`)), r.Put([]byte("future"), []byte(`{"v":9}`)), o.Put([]byte("torn"), []byte(`x`)))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		w.start()
		if got := w.srv.Relays(); len(got) != 1 || got[0].ID != "web1" {
			t.Errorf("Relays lists %v, want web1 only", got)
		}
		if got := w.srv.Overrides(); len(got) != 0 {
			t.Errorf("Overrides lists %v", got)
		}
		// A relay whose record was unreadable registers again and is stored again.
		p = w.connect("torn")
		p.add("b")
		p.want("get b")
	})
}

// TestStoreRetries: registrations that cannot be written are kept and written later.
func TestStoreRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		broken, err := bolt.Open(w.path+"2", 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		broken.Close() // every transaction fails from now on
		healthy := w.db
		w.srv.keeper.store.mu.Lock() // the store's goroutine reads db only after a change under this lock
		w.srv.keeper.store.db = broken
		w.srv.keeper.store.mu.Unlock()
		p := w.connect("web1")
		p.add("a")
		p.want("get a")
		p.send("got a:1")
		time.Sleep(10 * time.Second)
		settle()
		if n := w.metric("registry_write_errors_total"); n < 2 {
			t.Errorf("%v failed writes were counted, want more", n)
		}
		w.srv.keeper.store.mu.Lock()
		w.srv.keeper.store.db = healthy
		w.srv.keeper.store.mu.Unlock()
		time.Sleep(aliveEvery)
		settle()
		n := 0
		healthy.View(func(tx *bolt.Tx) error { n = tx.Bucket(relaysBucket).Stats().KeyN; return nil })
		if n != 1 {
			t.Errorf("%d relays are stored after the state file came back, want 1", n)
		}
	})
}
