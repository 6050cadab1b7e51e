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

// Buckets within the bucket "alerts". Alerts are small and few; whatever belongs to one has its id as (the start of) its key.
const (
	rootBucket       = "alerts"
	definitionBucket = "definitions" // id → Alert
	stateBucket      = "states"      // id → state, of the evaluator; id, 0, group → groupState
	queueBucket      = "queue"       // id, sequence → delivery, to be sent
	outcomeBucket    = "outcomes"    // id → Outcome, of the deliveries
)

// Store keeps alerts in the state file. It may be used from any goroutine; what a method returned nil for is on disk.
type Store struct{ db *bbolt.DB }

// OpenStore makes the buckets where they are missing.
func OpenStore(db *bbolt.DB) (*Store, error) {
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
	return &Store{db}, nil
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

// Create keeps a new alert and gives it its id. The error is a *FieldError, ErrTooMany, or the state file's.
func (s *Store) Create(a Alert) (Alert, error) { return s.create(a, nil) }

// create writes the state that goes with the alert in the same transaction, if there is one.
func (s *Store) create(a Alert, begin *keptState) (Alert, error) {
	if a.ID != "" {
		return a, fieldError("id", "left out: it is given by the server, and PUT changes an alert that exists")
	}
	a = a.withDefaults()
	if err := a.validate(); err != nil {
		return a, err
	}
	a.ID = strings.ToLower(rand.Text())
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := bucket(tx, definitionBucket)
		if b.Stats().KeyN >= maxAlerts {
			return ErrTooMany
		}
		if begin != nil {
			if err := begin.write(tx, a.ID); err != nil {
				return err
			}
		}
		return putJSON(b, []byte(a.ID), a)
	})
	return a, err
}

// Update replaces the alert that has the id. The error is a *FieldError, ErrNotFound, or the state file's.
func (s *Store) Update(a Alert) (Alert, error) { return s.update(a, nil) }

// update is as create.
func (s *Store) update(a Alert, begin *keptState) (Alert, error) {
	if a.ID == "" {
		return a, fieldError("id", "that of the alert to change")
	}
	a = a.withDefaults()
	if err := a.validate(); err != nil {
		return a, err
	}
	return a, s.db.Update(func(tx *bbolt.Tx) error {
		b := bucket(tx, definitionBucket)
		if len(a.ID) > bbolt.MaxKeySize || b.Get([]byte(a.ID)) == nil {
			return ErrNotFound
		}
		if begin != nil {
			if err := begin.write(tx, a.ID); err != nil {
				return err
			}
		}
		return putJSON(b, []byte(a.ID), a)
	})
}

// Delete forgets an alert, its state and what it had still to post; ErrNotFound if there is none.
func (s *Store) Delete(id string) error {
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

// Get returns the alert that has the id, or ErrNotFound.
func (s *Store) Get(id string) (a Alert, err error) {
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

// List returns all alerts, ordered by id.
func (s *Store) List() (all []Alert, err error) {
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
