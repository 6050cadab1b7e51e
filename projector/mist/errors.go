package mist

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// What can be wrong with a mist besides the network. They come wrapped in an [*Error].
var (
	// ErrClosed means that mist ended the connection. Before its first answer that is how mist
	// refuses a token.
	ErrClosed = errors.New("mist closed the connection")
	// ErrNoAnswer means that a ping was not answered in time.
	ErrNoAnswer = errors.New("mist does not answer")
	// ErrFlood means that mist sent far more than there was to answer.
	ErrFlood = errors.New("mist sends more than it was asked for")
)

// Error is a failure of the connection to mist. It never holds the token.
type Error struct {
	// Op is what failed: "dial", "greet" (up to the first answer), "ping", "read" or "write".
	Op string
	// Addr is mist's address.
	Addr string
	// Err is the cause.
	Err error
}

// Error says what failed and what to check.
func (e *Error) Error() string {
	advice := "it is tried again"
	switch {
	case e.Op == "dial":
		advice = "does mist run there? (--mist-address)"
	case e.Op == "greet" && errors.Is(e.Err, ErrClosed):
		advice = "does it take this --mist-token, and is it a mist? (--mist-address)"
	case e.Op == "greet":
		advice = "is it a mist? (--mist-address)"
	}
	return fmt.Sprintf("mist at %s: %s: %v; %s", e.Addr, e.Op, e.Err, advice)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// lost gives the ways in which the other side ends a connection one name. A mist that closes
// without having read everything resets the connection.
func lost(err error) error {
	if err == io.EOF {
		return ErrClosed
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}
