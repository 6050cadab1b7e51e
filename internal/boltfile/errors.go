package boltfile

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// ErrLocked means that another process has the file open.
var ErrLocked = errors.New("another process has the file open")

// DamagedError means that a file is not as bbolt wrote it.
type DamagedError struct{ Err error }

// Error says what is wrong.
func (e *DamagedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// Guard runs f, which reads or changes a database, and returns f's error. A damaged page may be one
// that bbolt panics over, or a mapping may end before a page does, which is a fault: both are a
// DamagedError.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &DamagedError{fmt.Errorf("%v", p)}
		}
	}()
	return f()
}
