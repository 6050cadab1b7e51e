package boltfile

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrLocked means that another process has the file open.
var ErrLocked = errors.New("another process has the file open")

// DamagedError means that the contents of a file are not what bbolt wrote.
type DamagedError struct{ Err error }

// Error says what is damaged.
func (e *DamagedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// Guard runs f, which reads or changes a database, and returns f's error. On a damaged page bbolt
// may panic, or may read beyond the end of the file's mapping, which is a memory fault. Guard
// returns a DamagedError for both.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &DamagedError{fmt.Errorf("%v", p)}
		}
	}()
	return f()
}
