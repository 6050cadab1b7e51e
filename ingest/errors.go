package ingest

import "errors"

// What can go wrong, for errors.Is. Every error of the package is an *[Error] that wraps one of
// these or the cause.
var (
	// ErrInvalid means that a request or an option makes no sense; the text says what to change.
	ErrInvalid = errors.New("invalid")
	// ErrNotConnected means that none of the relays that were named is connected, or that none is
	// at all.
	ErrNotConnected = errors.New("no such relay is connected")
	// ErrConnected means that the relay is connected.
	ErrConnected = errors.New("connected")
	// ErrNotFound means that there is no such override, which may have ended, or no such relay.
	ErrNotFound = errors.New("not found")
	// ErrTooMany means that a limit is reached.
	ErrTooMany = errors.New("too many")
	// ErrStopped means that the server has been stopped.
	ErrStopped = errors.New("the server is stopped")
)

// Error is the package's error: what was being done, to what, and why it failed.
type Error struct {
	// Op is what was being done: options, registry, override, cancel, forget, stop.
	Op string
	// Subject is what the error is about: an option, a collector, a relay, an override's id. It may
	// be empty.
	Subject string
	// Err is one of the package's sentinels, with details around it, or the cause.
	Err error
}

// Error says what failed and what to do.
func (e *Error) Error() string {
	if e.Subject == "" {
		return "ingest: " + e.Op + ": " + e.Err.Error()
	}
	return "ingest: " + e.Op + " " + e.Subject + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
