package influx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal"
)

// windowIndex stores in bbolt which windows have rows, and which records the rows were made of:
// start → end and extents. Each edge has windows of its own, which do not overlap. Those of this
// Pulse's own relays are in the bucket "windows", those of edges in the bucket "edge_windows", where
// the name of the edge and a zero stand before the start.
//
// An entry is saved before the rows that need it are written, so that no row is made of a record
// that the entry does not know.
type windowIndex struct {
	db *bbolt.DB
	// keep is how many entries an edge may have before its old entries are deleted. retention is how
	// old, in ns, a deleted entry must be.
	keep      int
	retention int64
	n         map[string]int // entries by edge
}

var (
	windowsBucket     = []byte("windows")
	edgeWindowsBucket = []byte("edge_windows")
)

// place returns where the windows of an edge are: the bucket, and what their keys begin with.
func place(edge string) (bucket, prefix []byte) {
	if edge == "" {
		return windowsBucket, nil
	}
	return edgeWindowsBucket, append([]byte(edge), 0)
}

// indexEntry is one window of the index.
type indexEntry struct {
	start, end int64
	records    journal.Spans
}

const indexVersion = 1

func indexKey(prefix []byte, start int64) []byte {
	return binary.BigEndian.AppendUint64(bytes.Clone(prefix), uint64(start)^(1<<63)) // in the order of time, before 1970 too
}

// edgeOf returns the edge of a key of a bucket.
func edgeOf(key []byte) string { return string(key[:max(0, len(key)-startBytes-1)]) }

const startBytes = 8 // of the start in a key

func (e *indexEntry) encode() []byte {
	v := []byte{indexVersion}
	v = binary.AppendUvarint(v, uint64(e.end-e.start))
	for _, x := range e.records {
		v = binary.AppendUvarint(v, x.First)
		v = binary.AppendUvarint(v, x.Last-x.First)
	}
	return v
}

var errIndexEntry = errors.New("a window in it cannot be read; restore pulse.db from a backup")

func decodeIndexEntry(key, value []byte) (indexEntry, error) {
	var e indexEntry
	value = seal.Open(value)
	if len(key) < startBytes || len(value) < 2 || value[0] != indexVersion {
		return e, errIndexEntry
	}
	e.start = int64(binary.BigEndian.Uint64(key[len(key)-startBytes:]) ^ (1 << 63))
	value = value[1:]
	next := func() uint64 {
		n, size := binary.Uvarint(value)
		if size <= 0 {
			value = nil
			return math.MaxUint64
		}
		value = value[size:]
		return n
	}
	length := next()
	if length == 0 || length > math.MaxInt64 || e.start+int64(length) < e.start {
		return e, errIndexEntry
	}
	e.end = e.start + int64(length)
	for len(value) > 0 {
		x := journal.Span{First: next()}
		more := next()
		x.Last = x.First + more
		if x.First == 0 || x.Last < x.First || x.First <= e.records.Last() {
			return e, errIndexEntry
		}
		e.records = append(e.records, x)
	}
	if len(e.records) == 0 {
		return e, errIndexEntry
	}
	return e, nil
}

// begin makes the buckets, and forgets the records after the journal's last record: their numbers
// will be used again.
func (x *windowIndex) begin(last uint64) error {
	return x.update(func(tx *bbolt.Tx) error {
		x.n = make(map[string]int)
		for _, name := range [][]byte{windowsBucket, edgeWindowsBucket} {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			if err := x.cut(b, last); err != nil {
				return err
			}
		}
		return nil
	})
}

// cut forgets the records after last in a bucket, and counts its entries.
func (x *windowIndex) cut(b *bbolt.Bucket, last uint64) error {
	type change struct{ key, value []byte }
	var changes []change
	err := b.ForEach(func(k, v []byte) error {
		x.n[edgeOf(k)]++
		e, err := decodeIndexEntry(k, v)
		if err != nil || e.records.Last() <= last {
			return err
		}
		c := change{key: bytes.Clone(k)}
		if e.records = e.records.Within(journal.Span{Last: last}); len(e.records) > 0 {
			c.value = e.encode()
		}
		changes = append(changes, c)
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.value == nil {
			x.n[edgeOf(c.key)]--
			err = b.Delete(c.key)
		} else {
			err = b.Put(c.key, seal.Seal(c.key, c.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// save saves the records of windows, durably.
func (x *windowIndex) save(windows []*window) error {
	n := maps.Clone(x.n)
	err := x.update(func(tx *bbolt.Tx) error {
		n = maps.Clone(x.n)
		newest := make(map[string]int64)
		for _, w := range windows {
			bucket, prefix := place(w.edge.name)
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			e := indexEntry{w.start, w.end, w.records}
			key := indexKey(prefix, w.start)
			if b.Get(key) == nil {
				n[w.edge.name]++
			}
			if err := b.Put(key, seal.Seal(key, e.encode())); err != nil {
				return err
			}
			if at, ok := newest[w.edge.name]; !ok || w.start > at {
				newest[w.edge.name] = w.start
			}
		}
		for edge, at := range newest {
			if err := x.prune(tx, edge, at, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		x.n = n
	}
	return err
}

// prune deletes the oldest entries of an edge beyond keep, if they are also older than the
// retention. Their age is measured from newest, the newest start that was just saved. So a clock
// that was once far ahead cannot empty the index.
func (x *windowIndex) prune(tx *bbolt.Tx, edge string, newest int64, n map[string]int) error {
	for n[edge] > x.keep {
		c := cursorOf(tx, edge)
		k, v := c.first()
		if k == nil { // cleared since n was counted
			n[edge] = 0
			return nil
		}
		e, err := decodeIndexEntry(k, v)
		if err != nil {
			return err
		}
		if e.end > newest-x.retention {
			return nil
		}
		if err := c.c.Delete(); err != nil {
			return err
		}
		n[edge]--
	}
	return nil
}

// clear forgets all windows. Unlike other changes of the index, it may come from any goroutine.
func (x *windowIndex) clear() error {
	return x.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{windowsBucket, edgeWindowsBucket} {
			if tx.Bucket(name) == nil {
				continue
			}
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (x *windowIndex) update(f func(*bbolt.Tx) error) error { return x.failure(x.db.Update(f)) }

// failure adds the path of the file to an error of the index; nil stays nil.
func (x *windowIndex) failure(err error) error {
	if err != nil {
		err = fmt.Errorf("influx: the index of windows in %s: %w", x.db.Path(), err)
	}
	return err
}
