package migrations

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// lockTimeout is how long another process may take to let go of the file.
// bbolt's own default waits for ever.
const lockTimeout = time.Second

// inspect looks at the file before bbolt does, which takes an empty file for a
// new database and dies over a cut one. missing says that there is no file.
func inspect(path string) (missing bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return false, &Error{Path: path, Err: errors.New("it is a link to nowhere: point it at the state file, or remove it")}
		}
		return true, nil
	case err != nil:
		return false, &Error{Path: path, Err: err}
	case !info.Mode().IsRegular():
		return false, &Error{Path: path, Kind: ErrDamaged, Err: errors.New("it is not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return false, &Error{Path: path, Err: err}
	}
	defer f.Close()
	if err := checkMeta(f, info.Size()); err != nil {
		return false, &Error{Path: path, Kind: ErrDamaged, Err: err}
	}
	return false, nil
}

// checkMeta wants one good meta page, and those that are good to have their
// high-water mark within the file. The layout is bbolt's: a page header of 16
// bytes, then magic, version, page size, flags, root bucket (16 bytes),
// freelist, high-water mark, transaction, checksum.
func checkMeta(f io.ReaderAt, size int64) error {
	const magic, header = 0xED0CDAED, 16
	if size == 0 {
		return errors.New("it is empty")
	}
	good := false
	for page := range int64(2) {
		for pageSize := int64(1 << 10); pageSize <= 64<<10; pageSize <<= 1 {
			var meta [64]byte
			if _, err := f.ReadAt(meta[:], page*pageSize+header); err != nil {
				continue
			}
			order := binary.NativeEndian
			if order.Uint32(meta[:]) != magic || int64(order.Uint32(meta[8:])) != pageSize {
				continue
			}
			good = true
			if pages := order.Uint64(meta[40:]); pages < 2 || pages > uint64(size/pageSize) {
				return fmt.Errorf("it is cut off: %d bytes are there, %d pages of %d were written", size, pages, pageSize)
			}
		}
	}
	if !good {
		return errors.New("it is no bbolt database")
	}
	return nil
}

// createBolt makes a new state file: whole under another name first, so that
// a crash leaves no half of one under the right name, and of two processes that
// start together one wins and the other finds the file there.
func createBolt(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return &Error{Path: path, Err: err}
	}
	db, err := openBolt(f.Name())
	if err != nil {
		return err
	}
	if err := errors.Join(migrate(db, nil), db.Close()); err != nil {
		return &Error{Path: path, Err: err}
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links: then the later of two wins.
		if err := os.Rename(f.Name(), path); err != nil {
			return &Error{Path: path, Err: err}
		}
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return &Error{Path: dir, Err: err}
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return &Error{Path: dir, Err: err}
	}
	return nil
}

// openBolt opens the file and reads all of it: damage is found here and not in
// the middle of a run. The file is small.
func openBolt(path string) (db *bbolt.DB, err error) {
	var file *os.File
	// bbolt panics over pages that make no sense, and a mapping that ends
	// before a page does is a fault: both are this file's damage. A broken
	// database is not closed, which could panic again; its lock is given back.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if file != nil {
				// Closing is not enough: the mapping, which stays, holds the lock.
				_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
				_ = file.Close()
			}
			db, err = nil, &Error{Path: path, Kind: ErrDamaged, Err: fmt.Errorf("%v", p)}
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, &Error{Path: filepath.Dir(path), Kind: ErrInUse}
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, &Error{Path: path, Kind: ErrDamaged, Err: err}
	case err != nil:
		return nil, &Error{Path: path, Err: err}
	}
	if err := db.View(func(tx *bbolt.Tx) error {
		if err := checkPages(tx, file, db.Info().PageSize); err != nil {
			return err
		}
		return readAll(tx)
	}); err != nil {
		return nil, errors.Join(&Error{Path: path, Kind: ErrDamaged, Err: err}, db.Close())
	}
	return db, nil
}

// readAll visits every key and value, then has bbolt check its own structure.
// The visit comes first: bbolt checks in a goroutine of its own, where a fault
// could not be caught. Both follow the pages, so checkPages comes before them.
func readAll(tx *bbolt.Tx) error {
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
	for err := range tx.Check() { // to its end, or its goroutine would stay
		if first == nil {
			first = err
		}
	}
	return first
}
