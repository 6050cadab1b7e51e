package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/boltfile"
)

// lockTimeout is how long Open waits for another process to close the file. bbolt waits for ever by
// default.
const lockTimeout = time.Second

// inspect checks the file before bbolt opens it. missing means that there is no file.
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
	if err := boltfile.CheckMeta(f, info.Size()); err != nil {
		return false, &Error{Path: path, Kind: ErrDamaged, Err: err}
	}
	return false, nil
}

// createBolt makes a new state file. It completes the file under another name first, so that a
// crash leaves no partial file under the right name. If two processes start together, one creates
// the file and the other one finds it there.
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
		// On a file system without links the later of two processes wins.
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

// openBolt opens the file and reads all of it, so that damage is found at the start and not later
// during the run.
func openBolt(path string) (*bbolt.DB, error) {
	db, err := boltfile.Open(path, lockTimeout)
	damaged, isDamaged := errors.AsType[*boltfile.DamagedError](err)
	switch {
	case err == nil:
		return db, nil
	case isDamaged:
		return nil, &Error{Path: path, Kind: ErrDamaged, Err: damaged.Err}
	case errors.Is(err, boltfile.ErrLocked):
		return nil, &Error{Path: filepath.Dir(path), Kind: ErrInUse}
	default:
		return nil, &Error{Path: path, Err: err}
	}
}

// guard runs f as boltfile.Guard does, and returns a damage as an ErrDamaged.
func guard(f func() error) error {
	err := boltfile.Guard(f)
	if damaged, ok := errors.AsType[*boltfile.DamagedError](err); ok {
		return fmt.Errorf("%w: %w", ErrDamaged, damaged.Err)
	}
	return err
}
