package boltfile

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Open opens the file, which is created if it does not exist, and reads all of it. If another
// process has the file open, Open waits for it until the timeout. The errors are ErrLocked, a
// *DamagedError, and those of the file system.
func Open(path string, timeout time.Duration) (*bbolt.DB, error) {
	var db *bbolt.DB
	var file *os.File
	opening := true
	err := Guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:      timeout,
			FreelistType: bbolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			},
		})
		if err != nil {
			opening = false
			return openError(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			// ReadAll and bbolt follow the pages, so the pages are checked first.
			if err := checkPages(tx, file, db.Info().PageSize); err != nil {
				return err
			}
			return ReadAll(tx)
		})
		opening = false
		if err != nil {
			return errors.Join(&DamagedError{err}, db.Close())
		}
		return nil
	})
	if opening && file != nil { // bbolt has panicked
		// A broken database is not closed, because Close could panic again. Closing the file alone
		// would not release the lock, because the mapping stays and holds it.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		_ = file.Close()
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// openError translates bbolt's errors into those of this package.
func openError(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return &DamagedError{err}
	}
	return err
}

// ReadAll visits every key and value, then has bbolt check its own structure. The visit comes first
// because bbolt checks in a goroutine of its own, where a fault could not be caught.
func ReadAll(tx *bbolt.Tx) error {
	var sum byte
	var visit func(b *bbolt.Bucket) error
	visit = func(b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				child := b.Bucket(k)
				if child == nil {
					return fmt.Errorf("key %q has neither a value nor a bucket", k)
				}
				return visit(child)
			}
			for _, c := range v {
				sum ^= c // touches the page
			}
			return nil
		})
	}
	if err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return visit(b) }); err != nil {
		return err
	}
	var first error
	for err := range tx.Check() { // read to the end, or the goroutine of Check would stay
		if first == nil {
			first = err
		}
	}
	return first
}
