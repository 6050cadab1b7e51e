package influx

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/nanopack/pulse/internal/cut"
)

// These are beginnings of error texts of InfluxDB 1.6 to 1.8. Neither the HTTP API nor the engine
// has types or codes for these errors.
var (
	schemaTexts = []string{"database not found", "retention policy not found"}
	busyTexts   = []string{
		"query interrupted", "query aborted", "query killed", "query-timeout limit exceeded",
		"max-concurrent-queries limit exceeded", "query engine shutdown",
		"timeout", "engine is closed", "shard is disabled", "tsdb store closed",
	}
	// of encoding/json in the server; 1.6 sends the second as the whole answer
	notFiniteTexts = []string{"json: unsupported value", "the answer is not readable: json: error calling MarshalJSON"}
)

// maxSaid is how many bytes of a server's error text are kept.
const maxSaid = 1000

// StatementError returns an error with the Kind that the error text of a statement means: Schema
// for a missing database or policy, Temporary for an overloaded or closing server, and Invalid (the
// statement's own fault) for any other text. status may be 0.
func StatementError(status int, text string) *Error {
	e := &Error{Op: "query", Kind: Invalid, Status: status, Err: errors.New(cut.Text(text, maxSaid))}
	if hasAnyPrefix(text, schemaTexts) {
		e.Kind = Schema
	} else if hasAnyPrefix(text, busyTexts) {
		e.Kind = Temporary
	}
	return e
}

// NotFinite reports whether a value of the answer was infinite or not a number, which the HTTP API
// cannot express. The embedded engine returns such values.
func (e *Error) NotFinite() bool { return e.Err != nil && hasAnyPrefix(e.Err.Error(), notFiniteTexts) }

// Unanswered reports whether err means that nothing accepts connections at the server's address:
// the address cannot be resolved or reached, or no server listens there.
func Unanswered(err error) bool {
	e, ours := errors.AsType[*Error](err)
	operation, network := errors.AsType[*net.OpError](err)
	return ours && e.Kind == Temporary && network && operation.Op == "dial" && !errors.Is(err, context.Canceled)
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// ContextError returns the error of a call that ended because ctx ended; nil while ctx has not
// ended.
func ContextError(op string, ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return &Error{Op: op, Kind: Temporary, Err: context.Cause(ctx)}
}
