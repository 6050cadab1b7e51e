package projector

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal"
)

var (
	positionsBucket = []byte("positions")
	backlogBucket   = []byte("backlog")
)

// Place is how far a projection is in the journal. The zero value is the journal's start.
type Place struct {
	// Position is the saved position: every record up to it was applied, or is in Left.
	Position uint64
	// Left are the records up to Position that are still to be filled in.
	Left journal.Spans
}

// Positions keeps the places of projections in bbolt. Bucket "positions" has name → position.
// Bucket "backlog" has a bucket for each projection with records left, in it first → last of each
// span. All numbers are eight bytes, big-endian. The methods may be called from any goroutine; the
// database stays the caller's.
type Positions struct{ db *bbolt.DB }

// NewPositions returns the places kept in db. The buckets are made when they are first needed.
func NewPositions(db *bbolt.DB) *Positions { return &Positions{db: db} }

// Load returns the position of a projection, 0 if none was saved.
func (p *Positions) Load(name string) (seq uint64, err error) {
	err = p.db.View(func(tx *bbolt.Tx) error {
		seq, err = loadPosition(tx, name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("projector: reading the position of %s in %s: %w", name, p.db.Path(), err)
	}
	return seq, nil
}

// Save saves a position durably: it returns after an fsync.
func (p *Positions) Save(name string, seq uint64) error {
	err := p.db.Update(func(tx *bbolt.Tx) error { return storePosition(tx, name, seq) })
	if err != nil {
		return fmt.Errorf("projector: saving the position of %s in %s: %w", name, p.db.Path(), err)
	}
	return nil
}

// Change changes the place of a projection in one transaction, durably. f returns the new place, or
// an error that leaves everything as it was. Change returns the place as it is in the database.
func (p *Positions) Change(name string, f func(Place) (Place, error)) (Place, error) {
	var next Place
	err := p.db.Update(func(tx *bbolt.Tx) error {
		var old Place
		var err error
		if old.Position, err = loadPosition(tx, name); err != nil {
			return err
		}
		if old.Left, err = loadSpans(tx, name); err != nil {
			return err
		}
		if next, err = f(old); err != nil {
			return err
		}
		if next.Position != old.Position {
			if err := storePosition(tx, name, next.Position); err != nil {
				return err
			}
		}
		if slices.Equal(next.Left, old.Left) {
			return nil
		}
		return storeSpans(tx, name, next.Left)
	})
	if err != nil {
		return Place{}, fmt.Errorf("projector: changing the place of %s in %s: %w", name, p.db.Path(), err)
	}
	return next, nil
}

// Newest returns the highest saved position: the journal held that event. It is 0 if there is none.
func (p *Positions) Newest() (seq uint64, err error) {
	err = p.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(positionsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			if v = seal.Open(v); len(v) == 8 { // Load returns an error for every other value
				seq = max(seq, binary.BigEndian.Uint64(v))
			}
			return nil
		})
	})
	if err != nil {
		return 0, fmt.Errorf("projector: reading the positions in %s: %w", p.db.Path(), err)
	}
	return seq, nil
}

// Clear forgets all places. It is for a journal that was begun again: every projection then begins
// at its start.
func (p *Positions) Clear() error {
	err := p.db.Update(func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{positionsBucket, backlogBucket} {
			if tx.Bucket(bucket) == nil {
				continue
			}
			if err := tx.DeleteBucket(bucket); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("projector: clearing the positions in %s: %w", p.db.Path(), err)
	}
	return nil
}

func loadPosition(tx *bbolt.Tx, name string) (uint64, error) {
	b := tx.Bucket(positionsBucket)
	if b == nil {
		return 0, nil
	}
	v := seal.Open(b.Get([]byte(name)))
	if v == nil {
		return 0, nil
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("it has %d bytes instead of 8; restore the file from a backup", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func storePosition(tx *bbolt.Tx, name string, seq uint64) error {
	b, err := tx.CreateBucketIfNotExists(positionsBucket)
	if err != nil {
		return err
	}
	return b.Put([]byte(name), seal.Seal([]byte(name), binary.BigEndian.AppendUint64(nil, seq)))
}

func loadSpans(tx *bbolt.Tx, name string) (list journal.Spans, err error) {
	top := tx.Bucket(backlogBucket)
	if top == nil || top.Bucket([]byte(name)) == nil {
		return nil, nil
	}
	err = top.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
		v = seal.Open(v)
		if len(k) != 8 || len(v) != 8 || bytes.Compare(k, v) > 0 {
			return fmt.Errorf("%x to %x is no range; restore the file from a backup", k, v)
		}
		list = list.Add(journal.Span{First: binary.BigEndian.Uint64(k), Last: binary.BigEndian.Uint64(v)})
		return nil
	})
	return list, err
}

// storeSpans replaces the spans of a projection.
func storeSpans(tx *bbolt.Tx, name string, list journal.Spans) error {
	top, err := tx.CreateBucketIfNotExists(backlogBucket)
	if err != nil {
		return err
	}
	if top.Bucket([]byte(name)) != nil {
		if err := top.DeleteBucket([]byte(name)); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	b, err := top.CreateBucket([]byte(name))
	if err != nil {
		return err
	}
	for _, s := range list {
		key := binary.BigEndian.AppendUint64(nil, s.First)
		if err := b.Put(key, seal.Seal(key, binary.BigEndian.AppendUint64(nil, s.Last))); err != nil {
			return err
		}
	}
	return nil
}
