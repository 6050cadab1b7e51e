// Package plainfile opens files that should be plain files. Opening a pipe, or reading from one,
// can wait for ever, so with package os a pipe in the place of a file would block the caller.
package plainfile

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotPlain means that a directory, pipe, socket or device is in the place of a file. It comes in
// an *fs.PathError.
var ErrNotPlain = errors.New("not a plain file")

// Open opens a plain file for reading. It follows links and never waits.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotPlain}
	}
	if err != nil {
		_ = f.Close() // opened for reading
		return nil, err
	}
	return f, nil
}

// ReadFile reads a plain file to its end.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	return io.ReadAll(f)
}
