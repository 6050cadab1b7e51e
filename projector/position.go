package projector

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

var positionsBucket = []byte("positions")

// Positions keeps the positions of projections in bbolt, bucket "positions": name → sequence number, eight
// bytes big-endian. Its methods may be called from any goroutine; the database stays the caller's.
type Positions struct{ db *bbolt.DB }

// NewPositions returns the positions kept in db. The bucket is made when it is first needed.
func NewPositions(db *bbolt.DB) *Positions { return &Positions{db: db} }

// Load returns the position of a projection, 0 if none was saved.
func (p *Positions) Load(name string) (seq uint64, err error) {
	err = p.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(positionsBucket)
		if b == nil {
			return nil
		}
		v := seal.Open(b.Get([]byte(name)))
		if v == nil {
			return nil
		}
		if len(v) != 8 {
			return fmt.Errorf("it has %d bytes instead of 8; restore the file from a backup", len(v))
		}
		seq = binary.BigEndian.Uint64(v)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("projector: reading the position of %s in %s: %w", name, p.db.Path(), err)
	}
	return seq, nil
}

// Save saves a position durably: it returns after an fsync.
func (p *Positions) Save(name string, seq uint64) error {
	err := p.db.Update(func(tx *bbolt.Tx) error { return putPosition(tx, name, seq) })
	if err != nil {
		return fmt.Errorf("projector: saving the position of %s in %s: %w", name, p.db.Path(), err)
	}
	return nil
}

// Newest returns the highest saved position: the journal held that event. It is 0 if there is none.
func (p *Positions) Newest() (seq uint64, err error) {
	err = p.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(positionsBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			if v = seal.Open(v); len(v) == 8 { // Load says what is wrong with another
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

func putPosition(tx *bbolt.Tx, name string, seq uint64) error {
	b, err := tx.CreateBucketIfNotExists(positionsBucket)
	if err != nil {
		return err
	}
	return b.Put([]byte(name), seal.Seal([]byte(name), binary.BigEndian.AppendUint64(nil, seq)))
}

// Clear forgets all positions, and what was to be filled in behind them: for a journal that was begun anew. Every
// projection then begins at its start.
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
