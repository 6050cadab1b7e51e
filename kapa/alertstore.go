package kapa

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
)

const maxAlerts = 1000

// Buckets within the bucket "alerts". Alerts are small and few. Whatever belongs to an alert has
// the alert's id as (the start of) its key.
const (
	rootBucket       = "alerts"
	definitionBucket = "definitions" // id → Alert
	stateBucket      = "states"      // id → storedState, of the evaluator; id, 0, group → groupState
	queueBucket      = "queue"       // id, 0, sequence → delivery, to be sent
	outcomeBucket    = "outcomes"    // id → outcome, of the deliveries
)

// store keeps alerts in the state file. It may be used from any goroutine. What a method returned
// nil for is on disk.
type store struct{ db *bbolt.DB }

// openStore makes the buckets where they are missing.
func openStore(db *bbolt.DB) (*store, error) {
	err := db.Update(func(tx *bbolt.Tx) error {
		root, err := tx.CreateBucketIfNotExists([]byte(rootBucket))
		if err != nil {
			return err
		}
		for _, name := range []string{definitionBucket, stateBucket, queueBucket, outcomeBucket} {
			if _, err := root.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("kapa: making the buckets of the alerts in the state file: %w", err)
	}
	return &store{db}, nil
}

func bucket(tx *bbolt.Tx, name string) *bbolt.Bucket {
	return tx.Bucket([]byte(rootBucket)).Bucket([]byte(name))
}

func putJSON(b *bbolt.Bucket, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Put(key, seal.Seal(key, data))
}

// put keeps a valid alert, and in the same transaction the state that the alert begins with, unless
// that is nil. An alert without an id is a new one, and gets an id. The error is ErrTooMany of a
// new alert, ErrNotFound of another, or the state file's.
func (s *store) put(a Alert, begin *keptState) (Alert, error) {
	isNew := a.ID == ""
	if isNew {
		a.ID = strings.ToLower(rand.Text())
	}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := bucket(tx, definitionBucket)
		switch {
		case isNew && b.Stats().KeyN >= maxAlerts:
			return ErrTooMany
		case !isNew && (len(a.ID) > bbolt.MaxKeySize || b.Get([]byte(a.ID)) == nil):
			return ErrNotFound
		}
		if begin != nil {
			if err := begin.write(tx, &a); err != nil {
				return err
			}
		}
		return putJSON(b, []byte(a.ID), a)
	})
	return a, err
}

// remove forgets an alert, its state and its queued posts. It returns ErrNotFound if there is none.
func (s *store) remove(id string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b := bucket(tx, definitionBucket)
		if id == "" || b.Get([]byte(id)) == nil {
			return ErrNotFound
		}
		for _, name := range []string{queueBucket, stateBucket} {
			b := bucket(tx, name)
			if err := deleteKeys(b, keysOf(b, id)); err != nil {
				return err
			}
		}
		for _, name := range []string{definitionBucket, stateBucket, outcomeBucket} {
			if err := bucket(tx, name).Delete([]byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// get returns the alert that has the id, or ErrNotFound.
func (s *store) get(id string) (a Alert, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		data := bucket(tx, definitionBucket).Get([]byte(id))
		if data == nil {
			return ErrNotFound
		}
		a, err = unmarshalAlert(id, data)
		return err
	})
	return a, err
}

// list returns all alerts, ordered by id.
func (s *store) list() (all []Alert, err error) {
	all = []Alert{}
	err = s.db.View(func(tx *bbolt.Tx) error {
		return bucket(tx, definitionBucket).ForEach(func(key, data []byte) error {
			a, err := unmarshalAlert(string(key), data)
			if err != nil {
				return err
			}
			all = append(all, a)
			return nil
		})
	})
	return all, err
}

// unmarshalAlert fills in what the release that wrote the alert did not know.
func unmarshalAlert(id string, data []byte) (a Alert, err error) {
	err = unmarshalStored(id, data, &a)
	return a.withDefaults(), err
}

func unmarshalStored(id string, data []byte, into any) error {
	if err := json.Unmarshal(seal.Open(data), into); err != nil {
		return fmt.Errorf("kapa: what the state file holds of the alert %q cannot be read: delete the alert and make it again: %w", id, err)
	}
	return nil
}
