package influx

import (
	"bytes"
	"math"

	"go.etcd.io/bbolt"
)

// indexCursor goes over the windows of one edge in the index. A nil key means that there is none.
type indexCursor struct {
	c      *bbolt.Cursor
	prefix []byte
}

// cursorOf returns the cursor of an edge, or nil if there is no bucket for it.
func cursorOf(tx *bbolt.Tx, edge string) *indexCursor {
	bucket, prefix := place(edge)
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	return &indexCursor{b.Cursor(), prefix}
}

// own returns a key and its value, unless the key is another edge's.
func (c *indexCursor) own(key, value []byte) ([]byte, []byte) {
	if !bytes.HasPrefix(key, c.prefix) {
		return nil, nil
	}
	return key, value
}

func (c *indexCursor) first() (key, value []byte) { return c.from(math.MinInt64) }

func (c *indexCursor) next() (key, value []byte) { return c.own(c.c.Next()) }

// from moves to the first window that begins at t or later.
func (c *indexCursor) from(t int64) (key, value []byte) {
	return c.own(c.c.Seek(indexKey(c.prefix, t)))
}

// before moves to the last window that begins before t.
func (c *indexCursor) before(t int64) (key, value []byte) {
	if k, _ := c.c.Seek(indexKey(c.prefix, t)); k == nil {
		return c.own(c.c.Last())
	}
	return c.own(c.c.Prev())
}

// find returns the window of an edge that contains t and true, or the free time around t and false
// if there is no such window.
func (x *windowIndex) find(edge string, t int64) (e indexEntry, ok bool, err error) {
	free := indexEntry{start: math.MinInt64, end: math.MaxInt64}
	err = x.view(edge, func(c *indexCursor) error {
		if k, v := c.from(t); k != nil {
			if e, err = decodeIndexEntry(k, v); err != nil {
				return err
			}
			if e.start == t {
				ok = true
				return nil
			}
			free.end = e.start
		}
		k, v := c.before(t)
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

// overlapping visits the windows of an edge that overlap [from, to), oldest first.
func (x *windowIndex) overlapping(edge string, from, to int64, visit func(indexEntry)) error {
	return x.view(edge, func(c *indexCursor) error {
		k, v := c.before(from) // this window may reach into the range
		if k == nil {
			k, v = c.first()
		}
		for ; k != nil; k, v = c.next() {
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

// newest returns the newest window of an edge that begins before a time, and false if there is none.
func (x *windowIndex) newest(edge string, before int64) (e indexEntry, ok bool, err error) {
	return x.one(edge, func(c *indexCursor) (key, value []byte) { return c.before(before) })
}

// oldest returns the oldest window of an edge, and false if there is none.
func (x *windowIndex) oldest(edge string) (e indexEntry, ok bool, err error) {
	return x.one(edge, (*indexCursor).first)
}

// one returns the window to which move moves a cursor, and false if there is none.
func (x *windowIndex) one(edge string, move func(*indexCursor) (key, value []byte)) (e indexEntry, ok bool, err error) {
	err = x.view(edge, func(c *indexCursor) (err error) {
		if k, v := move(c); k != nil {
			ok = true
			e, err = decodeIndexEntry(k, v)
		}
		return err
	})
	return e, ok, err
}

// edges returns the edges that have windows, sorted: first "", which is always among them.
func (x *windowIndex) edges() (names []string, err error) {
	names = []string{""}
	err = x.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(edgeWindowsBucket)
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, _ := c.First(); k != nil; {
			edge := edgeOf(k)
			if edge == "" {
				return errIndexEntry
			}
			names = append(names, edge)
			k, _ = c.Seek(append([]byte(edge), 1)) // after all of its keys
		}
		return nil
	})
	return names, x.failure(err)
}

// view calls f with a cursor over the windows of an edge, unless there are none.
func (x *windowIndex) view(edge string, f func(*indexCursor) error) error {
	return x.failure(x.db.View(func(tx *bbolt.Tx) error {
		if c := cursorOf(tx, edge); c != nil {
			return f(c)
		}
		return nil
	}))
}
