package projector

import (
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

var backlogBucket = []byte("backlog")

// span is a row of records, both ends included.
type span struct{ from, to uint64 }

func (s span) records() uint64 { return s.to - s.from + 1 }

// spans ascend, and neither overlap nor touch.
type spans []span

// add adds a row of records; rows that touch become one.
func (s spans) add(n span) spans {
	var sum spans
	for _, old := range s {
		if old.to+1 < n.from || n.to+1 < old.from {
			sum = append(sum, old)
			continue
		}
		n = span{min(n.from, old.from), max(n.to, old.to)}
	}
	sum = append(sum, n)
	slices.SortFunc(sum, func(a, b span) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
	return sum
}

// remove takes a row of records out.
func (s spans) remove(n span) spans {
	var rest spans
	for _, old := range s {
		if old.from < n.from {
			rest = append(rest, span{old.from, min(old.to, n.from-1)})
		}
		if old.to > n.to {
			rest = append(rest, span{max(old.from, n.to+1), old.to})
		}
	}
	return rest
}

// upTo cuts off what lies behind end.
func (s spans) upTo(end uint64) spans {
	var rest spans
	for _, old := range s {
		if old.from <= end {
			rest = append(rest, span{old.from, min(old.to, end)})
		}
	}
	return rest
}

func (s spans) records() (n uint64) {
	for _, r := range s {
		n += r.records()
	}
	return n
}

// loadSpans reads the rows of a projection: bucket "backlog", in it a bucket per projection, in it from → to, eight
// bytes big-endian each.
func loadSpans(tx *bbolt.Tx, projection string) (spans, error) {
	top := tx.Bucket(backlogBucket)
	if top == nil {
		return nil, nil
	}
	b := top.Bucket([]byte(projection))
	if b == nil {
		return nil, nil
	}
	var s spans
	err := b.ForEach(func(k, v []byte) error {
		v = seal.Open(v)
		if len(k) != 8 || len(v) != 8 || slices.Compare(k, v) > 0 {
			return fmt.Errorf("%x to %x is no range; restore the file from a backup", k, v)
		}
		s = s.add(span{binary.BigEndian.Uint64(k), binary.BigEndian.Uint64(v)})
		return nil
	})
	return s, err
}

// storeSpans replaces the rows of a projection.
func storeSpans(tx *bbolt.Tx, projection string, s spans) error {
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
		key := binary.BigEndian.AppendUint64(nil, r.from)
		if err := b.Put(key, seal.Seal(key, binary.BigEndian.AppendUint64(nil, r.to))); err != nil {
			return err
		}
	}
	return nil
}
