package kapa

import (
	"cmp"
	"errors"
	"fmt"
)

var (
	// ErrNotFound is returned for an id that no alert has.
	ErrNotFound = errors.New("there is no alert with this id: GET /alerts lists them")
	// ErrTooMany is returned by Create when there are as many alerts as may be.
	ErrTooMany = errors.New("there are 1000 alerts already: delete one first")
)

// FieldError says which field of an alert is wrong and what it may be. It is the client's mistake
// (400).
type FieldError struct {
	Field string // "" is the object as a whole
	Want  string // what follows "must be"
	Err   error  // what is wrong with what was given; may be nil
}

// Error names the field and what it may be.
func (e *FieldError) Error() string {
	text := cmp.Or(e.Field, "the body") + " must be " + e.Want
	if e.Err != nil {
		text += fmt.Sprintf(" (%v)", e.Err)
	}
	return text
}

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

func fieldError(field, want string) *FieldError { return &FieldError{Field: field, Want: want} }

// StateError says that the state file did not take a change. The evaluator tries again.
type StateError struct{ Err error }

func (e *StateError) Error() string {
	return "kapa: the state file cannot be written (is the disk full?): " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *StateError) Unwrap() error { return e.Err }
