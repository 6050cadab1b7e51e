package relay

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/internal/spool"
)

// The errors of this package, to be found with errors.Is in an *Error.
var (
	// ErrName is a collector's name, tag, id or token that the protocol cannot carry.
	ErrName = errors.New("not usable on the wire: names may not hold '-', ':', ',' or control characters, tags no ',', tokens no space")
	// ErrReserved is a collector that is called relaywire.Reserved.
	ErrReserved = relaywire.ErrReserved
	// ErrDuplicate is a collector whose name is taken: remove the collector of that name first.
	ErrDuplicate = errors.New("a collector of that name exists: remove it first")
	// ErrClosed is a call after Close.
	ErrClosed = errors.New("the relay is closed")
	// ErrOptions are options that cannot work.
	ErrOptions = errors.New("unusable options")
	// ErrRefused is a server that answered the id with something other than ok, or sent an error
	// line because it refuses something or closes the connection. Detail holds the server's words.
	ErrRefused = errors.New("the server refused")
	// ErrSilent is a server that did not answer the id, or later a ping, in time.
	ErrSilent = errors.New("the server did not answer in time")
	// ErrSlow is a server that polls but does not read the answers.
	ErrSlow = errors.New("the server reads too slowly: more than 4 MiB waited to be sent")
	// ErrStuck is a collector that did not return within the collect timeout.
	ErrStuck = errors.New("the collector did not return within the collect timeout")
	// ErrSpoolInUse is a spool's directory that another process, or another relay of this one, uses.
	ErrSpoolInUse = spool.ErrInUse
	// ErrPanic is a collector that panicked.
	ErrPanic = errors.New("the collector panicked")
)

// Error is the error of this package's functions.
type Error struct {
	// Op is the operation that failed: "new", "change", "add", "connect", "talk to", "ping",
	// "collect", "wait" or "close".
	Op string
	// Subject is what Op was applied to: a collector's name or several, an option's name or the
	// server's address.
	Subject string
	// Err is one of the sentinels, or an error of the network or of the file system.
	Err error
	// Detail is what the server said, in at most 256 printable bytes, or a remark on Err, or empty.
	Detail string
}

// maxQuoted is how many bytes of a server's line are kept: a line may have 64 KiB.
const maxQuoted = 256

// quote returns what a server said, for errors and the log: at most maxQuoted bytes, and without
// control characters.
func quote(said []byte) string {
	const mark = "..."
	long := len(said) > maxQuoted
	if long {
		said = said[:maxQuoted-len(mark)]
	}
	text := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, string(said))
	if long {
		text += mark
	}
	return text
}

// Error names the operation, its subject and the reason for the failure.
func (e *Error) Error() string {
	s := "relay: " + e.Op
	if e.Subject != "" {
		s += " " + e.Subject
	}
	s += ": " + e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
