package projector

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal"
)

var backlogBucket = []byte("backlog")

// loadSpans reads the rows of a projection: bucket "backlog", in it a bucket per projection, in it from → to, eight
// bytes big-endian each.
func loadSpans(tx *bbolt.Tx, projection string) (journal.Spans, error) {
	top := tx.Bucket(backlogBucket)
	if top == nil {
		return nil, nil
	}
	b := top.Bucket([]byte(projection))
	if b == nil {
		return nil, nil
	}
	var s journal.Spans
	err := b.ForEach(func(k, v []byte) error {
		v = seal.Open(v)
		if len(k) != 8 || len(v) != 8 || slices.Compare(k, v) > 0 {
			return fmt.Errorf("%x to %x is no range; restore the file from a backup", k, v)
		}
		s = s.Add(journal.Span{First: binary.BigEndian.Uint64(k), Last: binary.BigEndian.Uint64(v)})
		return nil
	})
	return s, err
}

// storeSpans replaces the rows of a projection.
func storeSpans(tx *bbolt.Tx, projection string, s journal.Spans) error {
	top, err := tx.CreateBucketIfNotExists(backlogBucket)
	if err != nil {
		return err
	}
	name := []byte(projection)
	if top.Bucket(name) != nil {
		if err := top.DeleteBucket(name); err != nil {
			return err
		}
	}
	if len(s) == 0 {
		return nil
	}
	b, err := top.CreateBucket(name)
	if err != nil {
		return err
	}
	for _, r := range s {
		key := binary.BigEndian.AppendUint64(nil, r.First)
		if err := b.Put(key, seal.Seal(key, binary.BigEndian.AppendUint64(nil, r.Last))); err != nil {
			return err
		}
	}
	return nil
}
