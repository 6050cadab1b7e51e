package influx

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/nanopack/pulse/internal/cut"
)

// Error texts of InfluxDB 1.6 to 1.8, by their beginnings: neither the HTTP
// API nor the engine has types or codes for these.
var (
	schemaTexts = []string{"database not found", "retention policy not found"}
	busyTexts   = []string{
		"query interrupted", "query aborted", "query killed", "query-timeout limit exceeded",
		"max-concurrent-queries limit exceeded", "query engine shutdown",
		"timeout", "engine is closed", "shard is disabled", "tsdb store closed",
	}
	notFiniteTexts = []string{"json: unsupported value"} // of encoding/json in the server
)

// StatementError types the error text that a statement ended with: a missing
// database or policy is Schema, an overloaded or closing server Temporary, and
// all else the statement's own fault, Invalid. status may be 0.
func StatementError(status int, text string) *Error {
	e := &Error{Op: "query", Kind: Invalid, Status: status, Err: errors.New(cut.Text(text, maxSaid))}
	if hasAnyPrefix(text, schemaTexts) {
		e.Kind = Schema
	} else if hasAnyPrefix(text, busyTexts) {
		e.Kind = Temporary
	}
	return e
}

// NotFinite reports whether a value of the answer was infinite or no number at all,
// which the HTTP API cannot say. The embedded engine answers such values.
func (e *Error) NotFinite() bool { return e.Err != nil && hasAnyPrefix(e.Err.Error(), notFiniteTexts) }

// Unanswered reports whether an error is that nothing takes connections at the server's address,
// which is not resolved, not reachable, or has nobody who listens.
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

// ContextError is the error of a call that ended because its context did; nil
// while ctx has not ended.
func ContextError(op string, ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return &Error{Op: op, Kind: Temporary, Err: context.Cause(ctx)}
}
