package link

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

// bucketName is the bucket of pulse.db that has a value for each edge that was ever here.
const bucketName = "edges"

const (
	// keepGaps and keepBegun bound what is kept of an edge's troubles, the oldest going first.
	keepGaps  = 100
	keepBegun = 20
)

// stored is what a hub keeps of an edge beside its events. Only what people read, and the start of
// histories, depends on it: which event the edge goes on with is in the journal.
type stored struct {
	Journal string    `json:"journal"` // the edge's journal
	Heard   time.Time `json:"heard"`
	Address string    `json:"address"`
	Release string    `json:"release"`
	Last    uint64    `json:"last"`
	Gaps    []Gap     `json:"gaps,omitempty"`
	Begun   []Begun   `json:"begun,omitempty"`
	// Histories are those of the edge's journal that the hub has parts of, in order.
	Histories []history `json:"histories,omitempty"`
}

// history says that the events of an edge from the number At on are in the hub's journal behind Start,
// up to where the next history begins.
type history struct {
	Start uint64 `json:"start"` // of the hub's journal
	At    uint64 `json:"at"`
}

// addGap adds a gap, unless it is there: an edge tells it again if no event came after it.
func (s *stored) addGap(g Gap) bool {
	if slices.ContainsFunc(s.Gaps, func(old Gap) bool { return old.From == g.From && old.To == g.To }) {
		return false
	}
	s.Gaps = append(s.Gaps, g)
	s.Gaps = s.Gaps[max(0, len(s.Gaps)-keepGaps):]
	return true
}

// addBegun is addGap for a history that was begun.
func (s *stored) addBegun(b Begun) bool {
	if n := len(s.Begun); n > 0 && s.Begun[n-1].At == b.At && s.Begun[n-1].Kept == b.Kept {
		return false
	}
	s.Begun = append(s.Begun, b)
	s.Begun = s.Begun[max(0, len(s.Begun)-keepBegun):]
	return true
}

// known returns the histories of which the hub has an event. last is its newest record of the edge.
func (s *stored) known(last uint64) []history {
	list := slices.DeleteFunc(slices.Clone(s.Histories), func(h history) bool { return h.Start > last })
	if len(list) == 0 {
		return []history{{Start: 1, At: 1}}
	}
	return list
}

// registry keeps a stored for each edge in pulse.db. Its methods may be called from any goroutine.
type registry struct{ db *bbolt.DB }

func (r registry) load() (map[string]*stored, error) {
	all := make(map[string]*stored)
	err := r.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucketName))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			s := new(stored)
			if err := json.Unmarshal(seal.Open(v), s); err != nil {
				return fmt.Errorf("the edge %q: %w", k, err)
			}
			all[string(k)] = s
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("link: reading the edges in %s: %w", r.db.Path(), err)
	}
	return all, nil
}

// save keeps what is known of an edge; it is durable when save returns.
func (r registry) save(name string, s *stored) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	err = r.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucketName))
		if err != nil {
			return err
		}
		return b.Put([]byte(name), seal.Seal([]byte(name), data))
	})
	if err != nil {
		return fmt.Errorf("link: keeping the edge %s in %s: %w", name, r.db.Path(), err)
	}
	return nil
}
