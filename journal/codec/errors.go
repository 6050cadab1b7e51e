package codec

import (
	"errors"
	"fmt"
)

// What can go wrong, for errors.Is.
var (
	// ErrNotFinite means that a reading is NaN or infinite.
	ErrNotFinite = errors.New("journal: a reading is not a finite number; reject it before it gets here")
	// ErrSubject means that a stored message has a subject that is not one of ours.
	ErrSubject = errors.New("journal: a message under an unknown subject")
	// ErrDecode is wrapped by every *DecodeError.
	ErrDecode = errors.New("journal: not a readable event; written by a newer version, or damaged")
)

// DecodeError says where an event could not be decoded.
type DecodeError struct {
	// Offset is the byte at which decoding stopped, Reason what was wrong there.
	Offset int
	Reason string
}

// Error names the place and the reason.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("%v: byte %d: %s", ErrDecode, e.Offset, e.Reason)
}

// Unwrap makes errors.Is(err, ErrDecode) true.
func (e *DecodeError) Unwrap() error { return ErrDecode }
