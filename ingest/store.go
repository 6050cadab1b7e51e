package ingest

import (
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

const (
	// storeDelay is how long a change waits for others to be written with it, and storeBatch how many relays one transaction
	// writes: other writers of the state file wait for no more than that.
	storeDelay = 200 * time.Millisecond
	storeBatch = 1000
	// keepEvery is how often what has become too old is looked for.
	keepEvery = time.Minute
	// retryFirst and retryMost bound the time between two tries to write after a failure.
	retryFirst, retryMost = time.Second, 30 * time.Second
)

var relaysBucket = []byte("relays")

// storedRelay is the JSON of one relay in the bucket "relays", under its id.
type storedRelay struct {
	V          int               `json:"v"`
	Collectors []storedCollector `json:"collectors"`
	// Last is the time of its newest event and Gone when it disconnected, in ns, as they were when it was written; Gone is 0 while it
	// is connected. storedAlive is newer for those that are connected.
	Last int64 `json:"last,omitempty"`
	Gone int64 `json:"gone,omitempty"`
}

type storedCollector struct {
	Name string   `json:"name"`
	Tags []string `json:"tags,omitempty"`
}

// store writes the registry behind: ten thousand relays that connect and add ten collectors each are a few dozen transactions, not a
// hundred thousand. What a crash loses is a fraction of a second of registrations, which relays repeat when they reconnect, and a few
// seconds of who was connected and heard: see storedAlive. Its goroutine (run) also has what is too old forgotten.
type store struct {
	db  *bolt.DB
	log *slog.Logger
	m   *metrics
	// lookup returns a relay by its id, nil if it is to be deleted; connected the ids of those that are connected, with the times of
	// their newest events; keep forgets what is too old; now is the clock. All are set before run.
	lookup    func(id string) *relay
	connected func() map[string]int64
	keep      func()
	now       func() time.Time

	// Of run, and of close after it: what noteAlive wrote last has no relay; it could not write the last time.
	noneAlive, aliveFailing bool

	wake chan struct{} // capacity 1
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex // guards dirty; nothing else is locked under it
	dirty map[string]struct{}
}

func newStore(db *bolt.DB, log *slog.Logger, m *metrics) *store {
	return &store{db: db, log: log, m: m, dirty: make(map[string]struct{}),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// changed has the relay with that id written soon.
func (st *store) changed(id string) {
	st.mu.Lock()
	st.dirty[id] = struct{}{}
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default: // it will see it
	}
}

// load calls visit for every stored relay. What cannot be read is logged and left out: its relay registers anew.
func (st *store) load(visit func(id string, r storedRelay)) error {
	return st.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(relaysBucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			var r storedRelay
			if err := json.Unmarshal(seal.Open(v), &r); err != nil || r.V != 1 {
				st.log.Warn("a stored relay cannot be read; it is left out until it registers again", "relay", string(k), "version", r.V, "error", err)
				return nil
			}
			visit(string(k), r)
			return nil
		})
	})
}

func (st *store) run() {
	defer close(st.done)
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	delay := time.NewTimer(0)
	defer delay.Stop()
	retry := retryFirst
	failing := false
	for {
		select {
		case <-st.stop:
			return
		case <-keep.C:
			st.keep()
			continue
		case <-alive.C:
			st.keepAlive()
			continue
		case <-st.wake:
		}
		delay.Reset(storeDelay)
		if failing {
			delay.Reset(retry)
		}
		select {
		case <-st.stop:
			return
		case <-delay.C:
		}
		err := st.flush()
		switch {
		case err != nil && !failing:
			failing, retry = true, retryFirst
			st.log.Error("registrations cannot be stored; trying again until they can", "error", err)
		case err != nil:
			retry = min(2*retry, retryMost)
		case failing:
			failing = false
			st.log.Info("registrations are stored again")
		}
	}
}

// close ends run and writes what it has not written.
func (st *store) close() error {
	close(st.stop)
	<-st.done
	return st.noteAlive()
}

// flush writes every relay that has changed. What could not be written stays marked as changed.
func (st *store) flush() error {
	st.mu.Lock()
	ids := make([]string, 0, len(st.dirty))
	for id := range st.dirty {
		ids = append(ids, id)
	}
	clear(st.dirty)
	st.mu.Unlock()
	slices.Sort(ids) // neighbours share pages
	for len(ids) > 0 {
		n := min(len(ids), storeBatch)
		if err := st.put(ids[:n]); err != nil {
			st.m.registryErrors.Inc()
			for _, id := range ids {
				st.changed(id)
			}
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// put writes the relays as they are now: each is read after its mark has been taken away, so that no change is missed.
func (st *store) put(ids []string) error {
	return st.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(relaysBucket)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if v := st.lookup(id).encode(); v != nil {
				err = b.Put([]byte(id), seal.Seal([]byte(id), v))
			} else {
				err = b.Delete([]byte(id))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// encode returns what is stored of r; nil when there is nothing to remember.
func (r *relay) encode() []byte {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.memorable() {
		return nil
	}
	s := storedRelay{V: 1, Last: r.seen(), Collectors: make([]storedCollector, len(r.collectors))}
	for i, c := range r.collectors {
		s.Collectors[i] = storedCollector{Name: c.name, Tags: c.tags}
	}
	if r.sess == nil {
		s.Gone = r.goneAt.UnixNano()
	}
	v, err := json.Marshal(s)
	if err != nil {
		panic("ingest: strings and numbers always encode: " + err.Error())
	}
	return v
}
