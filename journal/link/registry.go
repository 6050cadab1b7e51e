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
	// keepGaps, keepBegun and keepHistories bound what is kept of an edge, the oldest going first.
	keepGaps      = 100
	keepBegun     = 20
	keepHistories = 50
)

// stored is what a hub keeps of an edge beside its events. Which event the edge goes on with is in the
// journal, as long as the journal holds any.
type stored struct {
	Heard   time.Time `json:"heard"`
	Address string    `json:"address"`
	Release string    `json:"release"`
	Last    uint64    `json:"last"`
	Gaps    []Gap     `json:"gaps,omitempty"`
	Begun   []Begun   `json:"begun,omitempty"`
	// Histories are those of the edge that the hub has parts of, in order.
	Histories []history `json:"histories,omitempty"`
	// Tip is the newest event that the hub had, and TipRecord its record, when it was last saved.
	Tip       event  `json:"tip"`
	TipRecord uint64 `json:"tip_record"`
}

// history is a part of the hub's journal in which the numbers of an edge rise: from the record Start on,
// up to where the next history begins. Most edges have one.
type history struct {
	Start uint64 `json:"start"` // its name, too
	At    uint64 `json:"at"`    // the first number of the edge in it
	From  uint64 `json:"from"`  // the Start of the history that it goes on from, 0 for none
	// Journal is the edge's journal that it came from, Tip its last event, which only the histories
	// before the last one have.
	Journal string `json:"journal"`
	Tip     event  `json:"tip"`
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

// known returns the histories of which the hub has an event, the last one with its tip. tip is the
// hub's newest event of the edge, and last its record; zero if it has none.
func (s *stored) known(tip event, last uint64) []history {
	if last == 0 {
		return nil
	}
	list := slices.DeleteFunc(slices.Clone(s.Histories), func(h history) bool { return h.Start > last })
	if len(list) == 0 {
		list = []history{{Start: 1, At: 1}}
	}
	list[len(list)-1].Tip = tip
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
