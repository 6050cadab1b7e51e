package influx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal"
)

var windowsBucket = []byte("windows")

// windowIndex stores in bbolt, bucket "windows", which windows have rows, and which records the
// rows were made of: start → end and extents. The windows in the index do not overlap.
//
// An entry is saved before the rows that need it are written, so that no row is made of a record
// that the entry does not know.
type windowIndex struct {
	db *bbolt.DB
	// keep is how many entries there may be before old entries are deleted. retention is how old,
	// in ns, a deleted entry must be.
	keep      int
	retention int64
	n         int
}

// indexEntry is one window of the index.
type indexEntry struct {
	start, end int64
	records    journal.Spans
}

const indexVersion = 1

func indexKey(start int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(start)^(1<<63)) // in the order of time, before 1970 too
}

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
	if len(key) != 8 || len(value) < 2 || value[0] != indexVersion {
		return e, errIndexEntry
	}
	e.start = int64(binary.BigEndian.Uint64(key) ^ (1 << 63))
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

// begin makes the bucket, and forgets the records after the journal's last record: their numbers
// will be used again.
func (x *windowIndex) begin(last uint64) error {
	return x.update(func(b *bbolt.Bucket) error {
		x.n = 0
		type change struct{ key, value []byte }
		var changes []change
		err := b.ForEach(func(k, v []byte) error {
			x.n++
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
				x.n--
				err = b.Delete(c.key)
			} else {
				err = b.Put(c.key, seal.Seal(c.key, c.value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// find returns the window that contains t and true, or the free time around t and false if there is
// no such window.
func (x *windowIndex) find(t int64) (e indexEntry, ok bool, err error) {
	free := indexEntry{start: math.MinInt64, end: math.MaxInt64}
	err = x.view(func(c *bbolt.Cursor) error {
		k, v := c.Seek(indexKey(t))
		if k != nil {
			if e, err = decodeIndexEntry(k, v); err != nil {
				return err
			}
			if e.start == t {
				ok = true
				return nil
			}
			free.end = e.start
			k, v = c.Prev()
		} else {
			k, v = c.Last()
		}
		if k == nil {
			return nil
		}
		if e, err = decodeIndexEntry(k, v); err != nil {
			return err
		}
		if ok = e.end > t; !ok {
			free.start = e.end
		}
		return nil
	})
	if err == nil && !ok {
		e = free
	}
	return e, ok, err
}

// overlapping visits the windows that overlap [from, to), oldest first.
func (x *windowIndex) overlapping(from, to int64, visit func(indexEntry)) error {
	return x.view(func(c *bbolt.Cursor) error {
		k, v := lastBefore(c, from) // this window may reach into the range
		if k == nil {
			k, v = c.First()
		}
		for ; k != nil; k, v = c.Next() {
			e, err := decodeIndexEntry(k, v)
			if err != nil {
				return err
			}
			if e.start >= to {
				return nil
			}
			if e.end > from {
				visit(e)
			}
		}
		return nil
	})
}

// newest returns the newest window that begins before a time, and false if there is none.
func (x *windowIndex) newest(before int64) (e indexEntry, ok bool, err error) {
	return x.one(func(c *bbolt.Cursor) (key, value []byte) { return lastBefore(c, before) })
}

// oldest returns the oldest window, and false if there is none.
func (x *windowIndex) oldest() (e indexEntry, ok bool, err error) {
	return x.one((*bbolt.Cursor).First)
}

// one returns the window to which move moves a cursor, and false if there is none.
func (x *windowIndex) one(move func(*bbolt.Cursor) (key, value []byte)) (e indexEntry, ok bool, err error) {
	err = x.view(func(c *bbolt.Cursor) (err error) {
		if k, v := move(c); k != nil {
			ok = true
			e, err = decodeIndexEntry(k, v)
		}
		return err
	})
	return e, ok, err
}

// view calls f with a cursor over the windows, unless there are none.
func (x *windowIndex) view(f func(*bbolt.Cursor) error) error {
	return x.failure(x.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(windowsBucket); b != nil {
			return f(b.Cursor())
		}
		return nil
	}))
}

// failure adds the path of the file to an error of the index; nil stays nil.
func (x *windowIndex) failure(err error) error {
	if err != nil {
		err = fmt.Errorf("influx: the index of windows in %s: %w", x.db.Path(), err)
	}
	return err
}

// clear forgets all windows. Unlike other changes of the index, it may come from any goroutine.
func (x *windowIndex) clear() error {
	return x.failure(x.db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(windowsBucket) == nil {
			return nil
		}
		return tx.DeleteBucket(windowsBucket)
	}))
}

// lastBefore moves the cursor to the last window that begins before t.
func lastBefore(c *bbolt.Cursor, t int64) (key, value []byte) {
	if k, _ := c.Seek(indexKey(t)); k == nil {
		return c.Last()
	}
	return c.Prev()
}

// save saves the records of windows, durably.
func (x *windowIndex) save(windows []*window) error {
	n := x.n
	err := x.update(func(b *bbolt.Bucket) error {
		n = x.n
		newest := int64(math.MinInt64)
		for _, w := range windows {
			e := indexEntry{w.start, w.end, w.records}
			key := indexKey(w.start)
			if b.Get(key) == nil {
				n++
			}
			if err := b.Put(key, seal.Seal(key, e.encode())); err != nil {
				return err
			}
			newest = max(newest, w.start)
		}
		return x.prune(b, newest, &n)
	})
	if err == nil {
		x.n = n
	}
	return err
}

// prune deletes the oldest entries beyond keep, if they are also older than the retention. Their
// age is measured from newest, the newest start that was just saved. So a clock that was once far
// ahead cannot empty the index.
func (x *windowIndex) prune(b *bbolt.Bucket, newest int64, n *int) error {
	for *n > x.keep {
		k, v := b.Cursor().First()
		if k == nil { // cleared since n was counted
			*n = 0
			return nil
		}
		e, err := decodeIndexEntry(k, v)
		if err != nil {
			return err
		}
		if e.end > newest-x.retention {
			return nil
		}
		if err := b.Delete(k); err != nil {
			return err
		}
		*n--
	}
	return nil
}

func (x *windowIndex) update(f func(*bbolt.Bucket) error) error {
	return x.failure(x.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(windowsBucket)
		if err != nil {
			return err
		}
		return f(b)
	}))
}
