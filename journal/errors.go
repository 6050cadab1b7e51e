package journal

import (
	"errors"
	"fmt"

	"github.com/nanopack/pulse/journal/codec"
)

// What can go wrong, for errors.Is. Every error of the package wraps one of these or a context's
// error.
var (
	// ErrClosed is returned by everything on a journal or reader that was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrInUse means that another process (or another Journal of this one) has the directory open.
	ErrInUse = errors.New("journal: another process uses this directory; stop it, or give this one a directory of its own")
	// ErrMissing means that the marker knows of a journal and the directory holds none.
	ErrMissing = errors.New("journal: the journal is gone; put its directory back from a backup, or start once with --journal-set-aside to begin anew")
	// ErrDamaged means that the journal's files are there and the server cannot read any of them.
	ErrDamaged = errors.New("journal: the journal's files cannot be read; repair or restore them, or start once with --journal-set-aside to begin anew (nothing is deleted)")
	// ErrServer means that the embedded server did not start or does not answer.
	ErrServer = errors.New("journal: the embedded server does not work")
	// ErrDiskFull means that less than Options.MinFree is free where the journal lies. Nothing was
	// stored. Appending resumes by itself when there is space again.
	ErrDiskFull = errors.New("journal: the disk is nearly full; free space on it, appending resumes by itself")
	// ErrUnavailable means that a write failed and the journal is restarting its server; nothing of
	// this append was stored. Appending resumes by itself.
	ErrUnavailable = errors.New("journal: not writable at the moment; see the log for the cause, appending resumes by itself")
	// ErrUnknown means that the write of the event failed in a way that leaves open whether it was
	// stored.
	ErrUnknown = errors.New("journal: it is not known whether the event was stored; see the log for the cause")
	// ErrNoRelay means that an event names no relay.
	ErrNoRelay = errors.New("journal: the event names no relay; set Relay")
	// ErrForeign means that the directory holds another journal than the one the marker belongs to.
	ErrForeign = errors.New("journal: the directory holds another journal than the one that pulse.db knows; put the right one back, or start once with --journal-set-aside to begin anew (nothing is deleted)")
	// ErrTooLarge means that an encoded event is larger than MaxEventBytes.
	ErrTooLarge = errors.New("journal: the event is larger than the journal stores; split it")
)

// Error is the package's error: what was being done, where, and why it failed.
type Error struct {
	// Op is what was being done: open, append, read, close.
	Op string
	// Dir is the journal's directory, Seq the sequence number in question; either may be empty.
	Dir string
	Seq uint64
	// Kind is one of the package's sentinels, Err the cause; Err may be nil.
	Kind error
	Err  error
}

// Error says what failed, where, and what to do.
func (e *Error) Error() string {
	s := e.Kind.Error()
	if e.Dir != "" {
		s += fmt.Sprintf(" (%s %s)", e.Op, e.Dir)
	} else if e.Seq != 0 {
		s += fmt.Sprintf(" (%s %d)", e.Op, e.Seq)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives errors.Is and errors.As both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// kindOf is the sentinel that an error of ours is, or errCanceled for a context's.
func kindOf(err error) error {
	for _, kind := range []error{ErrClosed, ErrDiskFull, ErrUnavailable, ErrUnknown, codec.ErrNotFinite, ErrTooLarge, ErrNoRelay, ErrServer} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return errCanceled
}

// causeOf is err when it says more than its kind.
func causeOf(err error) error {
	if err == kindOf(err) {
		return nil
	}
	return err
}

// errCanceled is the kind of an append whose context ended before the event was written.
var errCanceled = errors.New("journal: the append was canceled, nothing was stored")

// Reasons of a [GapError].
const (
	// GapRetention: the events were dropped by age or size before they were read.
	GapRetention = "dropped by retention"
	// GapLost: the events are missing inside the journal (a damaged block, deleted messages).
	GapLost = "missing from the journal"
	// GapRewound: the journal ends before the place that was asked for: it lost its end. The next
	// record has the sequence number From, and numbers are used again.
	GapRewound = "the journal ends before"
)

// GapError is returned by [Reader.Read] instead of records when sequence numbers are missing.
// The next Read goes on after the gap (at From itself when the reason is GapRewound).
type GapError struct {
	// From and To are the first and the last missing sequence number.
	From, To uint64
	// Reason is one of GapRetention, GapLost and GapRewound.
	Reason string
}

// Missing counts the missing sequence numbers.
func (e *GapError) Missing() uint64 { return e.To - e.From + 1 }

// Error names the gap and its reason.
func (e *GapError) Error() string {
	return fmt.Sprintf("journal: %d events (%d to %d) cannot be read: %s", e.Missing(), e.From, e.To, e.Reason)
}
