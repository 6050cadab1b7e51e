package migrations

import (
	"errors"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Check reads all of a state file that no process has open, and returns the damages that the next
// Open would repair. Check changes nothing. The error is an *Error, as Open's.
func Check(dir string) (found []Damage, err error) {
	path := filepath.Join(dir, FileName)
	missing, err := inspect(path)
	if err != nil {
		return nil, err
	}
	if missing {
		return nil, &Error{Path: path, Err: errors.New("it is not there: name a data dir of pulse")}
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, db.Close()); err != nil {
			err = &Error{Path: path, Err: err}
		}
	}()
	have, err := schema(db, len(steps()))
	if err != nil || have < len(steps()) {
		return nil, err // an earlier release has no seals
	}
	err = guard(func() error {
		found, err = damages(db)
		return err
	})
	return found, err
}

// damages returns the damages that the next Open would repair.
func damages(db *bbolt.DB) (found []Damage, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		names, err := misnamed(tx, func(string) {})
		for from, to := range names {
			found = append(found, nameDamage(from, to))
			found = append(found, newTree(tx.Bucket([]byte(from))).fill([]string{to}, tx.Bucket([]byte(from)))...)
		}
		if err != nil {
			return err
		}
		for _, name := range sealedBuckets {
			if b := tx.Bucket([]byte(name)); b != nil {
				found = append(found, newTree(b).fill([]string{name}, b)...)
			}
		}
		return nil
	})
	return found, err
}
