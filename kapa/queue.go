package kapa

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/url"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

const (
	maxQueue = 100 // posts that wait, per alert
	// maxGroupQueue is the same for an alert with groups: each group may have a post at the same
	// time.
	maxGroupQueue = maxGroups
)

// delivery is a post that waits.
type delivery struct {
	Created int64           `json:"created"`         // ns
	Group   string          `json:"group,omitempty"` // its key
	Body    json.RawMessage `json:"body"`
}

// outcome is how the deliveries of an alert went, as it is kept.
type outcome struct {
	Delivered int64  `json:"delivered,omitempty"` // ns: the last that arrived
	Error     string `json:"error,omitempty"`     // of the last attempt, "" if it arrived
}

// enqueue adds posts after the others of the alert. If there are too many then, it drops the oldest
// of those that are followed by another one of their group. If that is not enough, it drops the
// oldest of all.
func enqueue(tx *bbolt.Tx, id string, posts []delivery, grouped bool) (dropped int, err error) {
	if len(posts) == 0 {
		return 0, nil
	}
	b := bucket(tx, queueBucket)
	for i := range posts {
		seq, err := b.NextSequence()
		if err != nil {
			return 0, err
		}
		if err := putJSON(b, binary.BigEndian.AppendUint64(groupStateKey(id, ""), seq), posts[i]); err != nil {
			return 0, err
		}
	}
	limit := maxQueue
	if grouped {
		limit = maxGroupQueue
	}
	keys := keysOf(b, id)
	excess := len(keys) - limit
	if excess <= 0 {
		return 0, nil
	}
	last := map[string]int{}
	groups := make([]string, len(keys))
	for i, key := range keys {
		var d struct{ Group string }
		// What cannot be read belongs to no group.
		if grouped && json.Unmarshal(seal.Open(b.Get(key)), &d) == nil {
			groups[i] = d.Group
		}
		last[groups[i]] = i
	}
	var old, newest [][]byte
	for i, key := range keys {
		if last[groups[i]] == i {
			newest = append(newest, key)
		} else {
			old = append(old, key)
		}
	}
	return excess, deleteKeys(b, append(old, newest...)[:excess])
}

// keysOf are the keys of what belongs to the alert, in order: of its queued posts, or of its
// groups.
func keysOf(b *bbolt.Bucket, id string) (keys [][]byte) {
	prefix := groupStateKey(id, "")
	c := b.Cursor()
	for key, _ := c.Seek(prefix); bytes.HasPrefix(key, prefix); key, _ = c.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

func deleteKeys(b *bbolt.Bucket, keys [][]byte) error {
	for _, key := range keys {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// head is the first post of an alert.
type head struct{ id, key string }

// number tells the post from all others of the installation.
func (h head) number() uint64 {
	return binary.BigEndian.Uint64([]byte(h.key[len(h.id)+len(keySeparator):]))
}

// heads are the first posts of all alerts that have some.
func (s *store) heads() (heads []head, err error) {
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
func (s *store) receiver(id string) string {
	a, err := s.get(id)
	if err != nil {
		return "?"
	}
	u, err := url.Parse(a.Post)
	if err != nil || u.Host == "" {
		return "?"
	}
	return u.Host
}

// load reads what is to be posted, and for which alert. It returns ErrNotFound if that is gone.
func (s *store) load(h head) (a Alert, body []byte, created time.Time, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		definition, data := bucket(tx, definitionBucket).Get([]byte(h.id)), bucket(tx, queueBucket).Get([]byte(h.key))
		if definition == nil || data == nil {
			return ErrNotFound
		}
		if a, err = unmarshalAlert(h.id, definition); err != nil {
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

// finish keeps an outcome, and takes the post off the queue if it is done. It returns ErrNotFound
// if the alert is gone.
func (s *store) finish(h head, done bool, o outcome) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if bucket(tx, definitionBucket).Get([]byte(h.id)) == nil {
			return ErrNotFound
		}
		if o.Delivered == 0 {
			o.Delivered = loadOutcome(tx, h.id).Delivered
		}
		if err := putJSON(bucket(tx, outcomeBucket), []byte(h.id), o); err != nil {
			return err
		}
		if !done {
			return nil
		}
		return bucket(tx, queueBucket).Delete([]byte(h.key))
	})
}

// loadOutcome returns the zero value if there is no outcome, or none that can be read.
func loadOutcome(tx *bbolt.Tx, id string) (o outcome) {
	if data := bucket(tx, outcomeBucket).Get([]byte(id)); data == nil || json.Unmarshal(seal.Open(data), &o) != nil {
		return outcome{}
	}
	return o
}

// deliveries returns how many posts of the alert wait, and how the last attempt went.
func (s *store) deliveries(id string) (waiting int, last outcome) {
	// What cannot be read is not shown. The deliverer logs it.
	_ = s.db.View(func(tx *bbolt.Tx) error {
		waiting, last = len(keysOf(bucket(tx, queueBucket), id)), loadOutcome(tx, id)
		return nil
	})
	return waiting, last
}
