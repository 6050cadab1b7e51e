package ingest

import (
	"encoding/json"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// aliveEvery is how often it is written which relays are connected and when each was heard last: what a crash makes wrong of it.
const aliveEvery = 5 * time.Second

var (
	aliveBucket = []byte("relays_alive")
	aliveKey    = []byte("last")
)

// storedAlive is the JSON of what was true of the connected relays a moment ago. Their own records, in the bucket "relays", are written
// only when a relay changes: an id and a time of each in one value cost less than rewriting ten thousand records every few seconds.
type storedAlive struct {
	V  int   `json:"v"`
	At int64 `json:"at"` // when it was written, in ns
	// Seen is the time of the newest event of every relay that was connected, in ns, 0 if there was none.
	Seen map[string]int64 `json:"seen"`
}

// connectedRelays returns the connected relays with the times of their newest events.
func (g *registry) connectedRelays() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := make(map[string]int64, g.connected)
	for id, r := range g.relays {
		if r.sess == nil {
			continue
		}
		r.mu.Lock()
		seen[id] = r.seen()
		r.mu.Unlock()
	}
	return seen
}

// keepAlive is noteAlive with a line in the log when it begins to fail, and when it works again.
func (st *store) keepAlive() {
	err := st.noteAlive()
	switch {
	case err != nil && !st.aliveFailing:
		st.log.Error("it cannot be stored which relays are connected; trying again until it can", "error", err)
	case err == nil && st.aliveFailing:
		st.log.Info("it is stored again which relays are connected")
	}
	st.aliveFailing = err != nil
}

// noteAlive writes who is connected now, after the records of those that are no longer. It writes nothing while nobody is connected
// and the last value says so.
func (st *store) noteAlive() error {
	// In this order: whoever leaves after it was noted has a record that is newer, and is marked as changed before it is missing.
	a := storedAlive{V: 1, At: st.now().UnixNano(), Seen: st.connected()}
	if err := st.flush(); err != nil {
		return err
	}
	if len(a.Seen) == 0 && st.noneAlive {
		return nil
	}
	v, err := json.Marshal(a)
	if err != nil {
		return err
	}
	err = st.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(aliveBucket)
		if err != nil {
			return err
		}
		return b.Put(aliveKey, seal.Seal(aliveKey, v))
	})
	if err != nil {
		st.m.registryErrors.Inc()
		return err
	}
	st.noneAlive = len(a.Seen) == 0
	return nil
}

// loadAlive reads what noteAlive wrote last; a zero value if there is nothing that can be read.
func (st *store) loadAlive() (a storedAlive, err error) {
	err = st.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(aliveBucket)
		if b == nil {
			return nil
		}
		v := b.Get(aliveKey)
		if v == nil {
			return nil
		}
		if err := json.Unmarshal(seal.Open(v), &a); err != nil || a.V != 1 {
			st.log.Warn("it cannot be read which relays were connected when the server ended; they count as connected until now", "version", a.V, "error", err)
			a = storedAlive{}
		}
		return nil
	})
	return a, err
}

// restore returns the relay that was stored. One that was connected when the server died is gone since then: since alive was written.
func (a *storedAlive) restore(id string, s storedRelay, now time.Time) *relay {
	r := newRelay(id)
	// Not lastTime: events do not continue from there, where a server that was killed may have given times to others.
	r.storedTime = s.Last
	seen, connected := a.Seen[id]
	switch {
	case connected && s.Gone <= a.At:
		r.goneAt, r.storedTime = time.Unix(0, a.At), max(seen, s.Last)
	case s.Gone != 0:
		r.goneAt = time.Unix(0, s.Gone)
	case a.At != 0: // it came after alive was written
		r.goneAt = time.Unix(0, a.At)
	default:
		r.goneAt = now
	}
	for _, c := range s.Collectors {
		r.insert(&collector{name: c.Name, tags: c.Tags})
	}
	return r
}
