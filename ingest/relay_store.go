package ingest

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
	"unique"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// storeBatch is how many relays one transaction writes: other writers of the state file wait for no
// more than that.
const storeBatch = 1000

var (
	relaysBucket = []byte("relays")
	aliveBucket  = []byte("relays_alive")
	aliveKey     = []byte("last")
)

// storedRelay is the JSON of one relay in the bucket "relays", under its id.
type storedRelay struct {
	V          int               `json:"v"`
	Collectors []storedCollector `json:"collectors"`
	// Last is the time of its newest event and Gone when it disconnected, in ns, as they were when
	// it was written; Gone is 0 while it is connected. storedAlive is newer for those that are
	// connected.
	Last int64 `json:"last,omitempty"`
	Gone int64 `json:"gone,omitempty"`
	// Units are what the stats' values are in: stat:unit,stat:unit.
	Units string `json:"units,omitempty"`
}

type storedCollector struct {
	Name string   `json:"name"`
	Tags []string `json:"tags,omitempty"`
}

// storedAlive is the JSON of what was true of the connected relays a moment ago. Their own records,
// in the bucket "relays", are written only when a relay changes: an id and a time of each in one
// value cost less than rewriting ten thousand records every few seconds.
type storedAlive struct {
	V  int   `json:"v"`
	At int64 `json:"at"` // when it was written, in ns
	// Seen is the time of the newest event of every relay that was connected, in ns, 0 if there was
	// none.
	Seen map[string]int64 `json:"seen"`
}

// relayStore is the registry in the state file. Ten thousand relays that connect and add ten
// collectors each are a few dozen transactions, not a hundred thousand: what is written is what has
// changed since the last time.
type relayStore struct {
	env *env

	mu sync.Mutex // is held around every transaction, and guards what follows
	db *bolt.DB
	// nobody is whether the state file says that no relay is connected.
	nobody bool
}

// load returns every stored relay, not connected, in the order in which they went. What cannot be
// read is logged and left out: its relay registers again.
func (s *relayStore) load() (relays []*relay, err error) {
	now := s.env.Now()
	err = s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(relaysBucket)
		if err != nil {
			return err
		}
		last, err := tx.CreateBucketIfNotExists(aliveBucket)
		if err != nil {
			return err
		}
		alive := s.readAlive(last.Get(aliveKey))
		return b.ForEach(func(k, v []byte) error {
			var in storedRelay
			if err := json.Unmarshal(seal.Open(v), &in); err != nil || in.V != 1 {
				s.env.log.Warn("a stored relay cannot be read; it is left out until it registers again",
					"relay", string(k), "version", in.V, "error", err)
				return nil
			}
			r := alive.restore(s.env, string(k), in, now)
			if in.Gone != r.goneAt.UnixNano() {
				s.env.changes.add(r)
			}
			relays = append(relays, r)
			return nil
		})
	})
	slices.SortFunc(relays, func(a, b *relay) int { return a.goneAt.Compare(b.goneAt) })
	return relays, err
}

// readAlive returns a zero value if v is missing or cannot be read.
func (s *relayStore) readAlive(v []byte) (a storedAlive) {
	if v == nil {
		return a
	}
	if err := json.Unmarshal(seal.Open(v), &a); err != nil || a.V != 1 {
		s.env.log.Warn("it cannot be read which relays were connected when the server ended; "+
			"they count as connected until now", "version", a.V, "error", err)
		return storedAlive{}
	}
	return a
}

// restore returns the relay that was stored. One that was connected when the server died is gone
// since then: since a was written.
func (a *storedAlive) restore(e *env, id string, in storedRelay, now time.Time) *relay {
	r := newRelay(e, id)
	// Not lastTime: events do not continue from there, where a server that was killed may have
	// given times to others.
	r.storedTime = in.Last
	seen, connected := a.Seen[id]
	switch {
	case connected && in.Gone <= a.At:
		r.goneAt, r.storedTime = time.Unix(0, a.At), max(seen, in.Last)
	case in.Gone != 0:
		r.goneAt = time.Unix(0, in.Gone)
	case a.At != 0: // it came after a was written
		r.goneAt = time.Unix(0, a.At)
	default:
		r.goneAt = now
	}
	r.units.text = unique.Make(in.Units)
	for _, c := range in.Collectors {
		r.collectors.add(c.Name, c.Tags)
	}
	return r
}

// flush writes the record of every relay that has changed. What could not be written counts as
// changed still.
func (s *relayStore) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	relays := s.env.changes.take()
	for batch := range slices.Chunk(relays, storeBatch) {
		if err := s.update(func(tx *bolt.Tx) error { return putRelays(tx.Bucket(relaysBucket), batch) }); err != nil {
			s.env.changes.giveBack(relays)
			return err
		}
	}
	return nil
}

// putRelays writes the relays as they are now. That is after they were taken from the changes, so
// that none of theirs is missed.
func putRelays(b *bolt.Bucket, relays []*relay) error {
	for _, r := range relays {
		key := []byte(r.id)
		record, keep := r.record()
		if !keep {
			if err := b.Delete(key); err != nil {
				return err
			}
			continue
		}
		if err := putJSON(b, key, record); err != nil {
			return err
		}
	}
	return nil
}

// writeAlive writes which relays are connected. It writes nothing while nobody is connected and the
// state file says so.
func (s *relayStore) writeAlive(a storedAlive) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(a.Seen) == 0 && s.nobody {
		return nil
	}
	err := s.update(func(tx *bolt.Tx) error { return putJSON(tx.Bucket(aliveBucket), aliveKey, a) })
	s.nobody = err == nil && len(a.Seen) == 0
	return err
}

// update counts failed transactions. It needs mu.
func (s *relayStore) update(change func(*bolt.Tx) error) error {
	err := s.db.Update(change)
	if err != nil {
		s.env.m.registryErrors.Inc()
	}
	return err
}

// putJSON puts a value under its key, sealed.
func putJSON(b *bolt.Bucket, key []byte, value any) error {
	v, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put(key, seal.Seal(key, v))
}
