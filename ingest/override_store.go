package ingest

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/internal/seal"
)

var overridesBucket = []byte("overrides")

// storedOverride is the JSON of an override in the bucket "overrides", under its id. Times and
// intervals are in ns.
type storedOverride struct {
	V          int                      `json:"v"`
	Created    int64                    `json:"created"`
	Until      int64                    `json:"until"`
	Collectors map[string]time.Duration `json:"collectors"`
	Relays     []string                 `json:"relays"`
}

// overrideStore is the overrides that hold, as they are in the state file.
type overrideStore struct {
	db *bolt.DB

	// change is held around a change and what follows from it: there is one at a time. It comes
	// before every other lock.
	change sync.Mutex

	// active are the newest first; some may have ended. Every poll reads the list, so it is
	// replaced as a whole and never changed.
	active atomic.Pointer[[]*override]
}

// load reads what was stored and deletes what has ended meanwhile, or cannot be read.
func (s *overrideStore) load(log *quietlog.Logger, now time.Time, tick int64) error {
	var active []*override
	err := s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(overridesBucket)
		if err != nil {
			return err
		}
		var ended []string
		err = b.ForEach(func(k, v []byte) error {
			var in storedOverride
			if err := json.Unmarshal(seal.Open(v), &in); err != nil || in.V != 1 {
				log.Warn("a stored override cannot be read; it is deleted", "id", string(k), "version", in.V, "error", err)
				ended = append(ended, string(k))
				return nil
			}
			o := newOverride(Override{ID: string(k), Created: time.Unix(0, in.Created), Until: time.Unix(0, in.Until),
				Collectors: in.Collectors, Relays: in.Relays}, now, tick)
			if o.ends <= tick {
				ended = append(ended, string(k))
			} else {
				active = append(active, o)
			}
			return nil
		})
		for _, k := range ended {
			if err == nil {
				err = b.Delete([]byte(k))
			}
		}
		return err
	})
	slices.SortFunc(active, func(a, b *override) int { return b.Created.Compare(a.Created) })
	s.active.Store(&active)
	return err
}

// all returns those that hold, the newest first. The caller may change the list.
func (s *overrideStore) all(tick int64) (list []*override) {
	for _, o := range s.stored() {
		if o.ends > tick {
			list = append(list, o)
		}
	}
	return list
}

// of returns those that hold for the relay, the newest first.
func (s *overrideStore) of(relay string, tick int64) (list []*override) {
	for _, o := range s.stored() {
		if o.ends > tick && o.holdsFor(relay) {
			list = append(list, o)
		}
	}
	return list
}

func (s *overrideStore) stored() []*override {
	if list := s.active.Load(); list != nil {
		return *list
	}
	return nil
}

// settle waits for a change that is under way.
func (s *overrideStore) settle() {
	s.change.Lock()
	defer s.change.Unlock()
}

// set makes list those that hold: in the state file first, of which it deletes what is not in list
// and to which it writes what is new in list. It needs change.
func (s *overrideStore) set(list []*override) error {
	old := s.stored() // it changes only here, under change
	deleted := slices.DeleteFunc(slices.Clone(old), func(o *override) bool { return indexOverride(list, o.ID) >= 0 })
	written := slices.DeleteFunc(slices.Clone(list), func(o *override) bool { return slices.Contains(old, o) })
	if len(deleted)+len(written) == 0 {
		return nil
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(overridesBucket)
		for _, o := range deleted {
			if err := b.Delete([]byte(o.ID)); err != nil {
				return err
			}
		}
		for _, o := range written {
			v, err := json.Marshal(storedOverride{V: 1, Created: o.Created.UnixNano(), Until: o.Until.UnixNano(),
				Collectors: o.Collectors, Relays: o.Relays})
			if err != nil {
				return err
			}
			if err := b.Put([]byte(o.ID), seal.Seal([]byte(o.ID), v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.active.Store(&list)
	return nil
}

// forget takes a relay out of those that hold. An override that was for no other relay ends. It
// needs change.
func (s *overrideStore) forget(relay string, tick int64) error {
	list := s.all(tick)
	for i, o := range list {
		if o.holdsFor(relay) {
			list[i] = o.without(relay)
		}
	}
	return s.set(slices.DeleteFunc(list, func(o *override) bool { return len(o.Relays) == 0 }))
}

// expire deletes those that have ended. It needs change.
func (s *overrideStore) expire(tick int64) error { return s.set(s.all(tick)) }
