package kapa

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"time"

	"go.etcd.io/bbolt"
)

const maxQueue = 100 // posts that wait, per alert

// delivery is a post that waits.
type delivery struct {
	Created int64           `json:"created"` // ns
	Body    json.RawMessage `json:"body"`
}

// Outcome is how the deliveries of an alert went, as it is kept.
type Outcome struct {
	Delivered int64  `json:"delivered,omitempty"` // ns: the last that arrived
	Error     string `json:"error,omitempty"`     // of the last attempt, "" if it arrived
}

// enqueue adds a post behind the others of the alert, and drops the oldest of them if there are too many.
func enqueue(tx *bbolt.Tx, id string, d delivery) (dropped int, err error) {
	b := bucket(tx, queueBucket)
	keys := queueKeys(b, id)
	for ; len(keys)-dropped >= maxQueue; dropped++ {
		if err := b.Delete(keys[dropped]); err != nil {
			return 0, err
		}
	}
	seq, err := b.NextSequence()
	if err != nil {
		return 0, err
	}
	return dropped, putJSON(b, binary.BigEndian.AppendUint64(append([]byte(id), 0), seq), d)
}

// queueKeys are the keys of what the alert has to post, in order.
func queueKeys(b *bbolt.Bucket, id string) (keys [][]byte) {
	prefix := append([]byte(id), 0)
	c := b.Cursor()
	for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = c.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// head is the first post of an alert.
type head struct{ id, key string }

// heads are the first posts of all alerts that have some.
func (s *Store) heads() (heads []head, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		heads = nil
		c := bucket(tx, queueBucket).Cursor()
		for key, _ := c.First(); key != nil; {
			id, _, _ := bytes.Cut(key, []byte{0})
			heads = append(heads, head{string(id), string(key)})
			key, _ = c.Seek(append(bytes.Clone(id), 1))
		}
		return nil
	})
	return heads, err
}

// receiver is the host that an alert posts to, "?" if that cannot be said.
func (s *Store) receiver(id string) string {
	a, err := s.Get(id)
	if err != nil {
		return "?"
	}
	u, err := url.Parse(a.Post)
	if err != nil || u.Host == "" {
		return "?"
	}
	return u.Host
}

// load reads what is to be posted, and for which alert; ErrNotFound if that is gone.
func (s *Store) load(h head) (a Alert, body []byte, created time.Time, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		definition, data := bucket(tx, definitionBucket).Get([]byte(h.id)), bucket(tx, queueBucket).Get([]byte(h.key))
		if definition == nil || data == nil {
			return ErrNotFound
		}
		if err := unmarshalStored(h.id, definition, &a); err != nil {
			return err
		}
		var d delivery
		if err := unmarshalStored(h.id, data, &d); err != nil {
			return err
		}
		body, created = d.Body, time.Unix(0, d.Created)
		return nil
	})
	return a, body, created, err
}

// finish keeps an outcome, and takes the post off the queue if it is done. An alert that is gone is ErrNotFound.
func (s *Store) finish(h head, done bool, o Outcome) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if bucket(tx, definitionBucket).Get([]byte(h.id)) == nil {
			return ErrNotFound
		}
		outcomes := bucket(tx, outcomeBucket)
		if o.Delivered == 0 {
			var before Outcome
			if data := outcomes.Get([]byte(h.id)); data != nil && json.Unmarshal(data, &before) == nil {
				o.Delivered = before.Delivered
			}
		}
		if err := putJSON(outcomes, []byte(h.id), o); err != nil {
			return err
		}
		if !done {
			return nil
		}
		return bucket(tx, queueBucket).Delete([]byte(h.key))
	})
}
