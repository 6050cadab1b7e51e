// Package influx keeps the journal's readings in InfluxDB: every reading as a point (raw.go), and
// the windows computed from the readings (aggregates.go).
//
// Both projections write through one interface, Store, with two implementations. OpenExternal
// speaks to an InfluxDB 1.x server over HTTP, and package embedded runs the InfluxDB 1.8 engine
// inside this process. One behavioural suite (package influxtest) holds both to the same promises.
// Points written before a Flush that returns nil are durable. Writing the same points again
// overwrites and never adds. Points that the database will never take are counted in the result,
// and do not fail the batch. Nothing here retries, buffers or drops on its own: the runner does
// that.
package influx

import (
	"context"
	"errors"
	"fmt"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/influxnames"
)

// Database is the InfluxDB database that holds everything Pulse writes.
const Database = influxnames.Database

// Policy names a retention policy of Database.
type Policy string

const (
	// PolicyRaw keeps every reading for some hours. It is the default policy.
	PolicyRaw Policy = influxnames.Raw
	// PolicyAggregate keeps the windows for --retention weeks.
	PolicyAggregate Policy = influxnames.Aggregates
)

// Point is one row of a series: its fields at a time.
type Point struct {
	Series Series
	Fields []Field
	Time   int64 // nanoseconds since 1970, UTC
}

// Field is a named value of a point. Every value that Pulse writes is a float, so two fields
// written by Pulse never conflict.
type Field struct {
	Key   string
	Value float64
}

// Store is an InfluxDB. All methods may be called from any goroutine. When ctx ends, each method
// stops early with an error that wraps the context's; a write that was stopped like this may have
// been stored.
type Store interface {
	// Ping checks that the store is there and returns its version.
	Ping(ctx context.Context) (version string, err error)

	// Write stores points under a retention policy. It does not keep or change the points or their
	// fields. A nil error means that every point is either stored, and durable after the next
	// Flush, or counted in the result. After an error the result is zero, and the same points
	// should be offered again. This is harmless, because a point with equal measurement, tags and
	// time overwrites. The error is an *Error; its Kind says what helps. Batches of any size are
	// accepted, and split as the server needs it; 1,000 to 10,000 points are written fastest.
	Write(ctx context.Context, policy Policy, points []Point) (WriteResult, error)

	// Flush returns nil when all points written under a policy before the call survive a crash. The
	// embedded store writes a file for that, so Flush is called only once in a while. A server has
	// made its writes durable already.
	Flush(ctx context.Context, policy Policy) error

	// Query runs one InfluxQL statement. $name in the statement stands for params[name]: a string,
	// bool, float64, integer or time.Time. Nothing else is accepted, so that a parameter is a value
	// and never syntax.
	//
	// The values in the rows have the same types with every store. The column "time" is an int64
	// (ns), every other number is a float64, and the rest are string, bool or nil. The error is an
	// *Error; Kind Invalid means that the statement itself was refused.
	Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)

	// Read runs statements that only read, one after the other, and calls visit with each part of the
	// answers as it comes, on the caller's goroutine. The parts of a statement follow each other; the
	// last one of a failed statement says why in Err, and the statements after it are not run. An error of visit ends the statement and is returned as it is. Otherwise the error is an
	// *Error: no answer came, or ctx ended. Kind Invalid means that a statement was refused as a whole.
	// Read returns when nothing works for it any more.
	Read(ctx context.Context, r ReadRequest, visit func(ReadResult) error) error

	// Close waits for running calls and releases everything. It may be called twice. Later calls of
	// the other methods return an *Error that wraps ErrClosed.
	Close() error
}

// WriteResult counts the points that a successful Write did not store. The store will never take
// these points, so the caller counts them and goes on.
type WriteResult struct {
	// Dropped points were older than the retention policy keeps.
	Dropped int
	// Rejected points were refused: they have another field type, cannot be stored in InfluxDB
	// (NaN, a field named time, a key over 64 KiB), or need a new series beyond the server's
	// limits. The other points of the batch are stored.
	Rejected int
	// Limit reports whether some of Rejected met max-series-per-database or max-values-per-tag.
	// Then every new series is lost, so it should raise an alarm.
	Limit bool
	// Reason is the text of the first refusal; empty if nothing was rejected.
	Reason string
}

// limitTexts are the beginnings of the reasons with which InfluxDB refuses any new series.
var limitTexts = []string{"max-values-per-tag limit exceeded", "max-series-per-database limit exceeded"}

// Refuse counts n refused points and their reason.
func (r *WriteResult) Refuse(n int, reason string) {
	r.Rejected += n
	if reason == "" {
		reason = "refused without a reason"
	}
	if r.Reason == "" {
		r.Reason = cut.Text(reason, maxSaid)
	}
	if hasAnyPrefix(reason, limitTexts) {
		r.Limit = true
	}
}

// Kind says what to do about an Error.
type Kind int

const (
	// Temporary: back off and offer the same call again. It is the zero value, because trying again
	// is the safe answer to an unknown error.
	Temporary Kind = iota
	// Schema: the database or the retention policy is not there. Create the
	// schema and try again.
	Schema
	// Auth: user and password are refused. Only a new configuration helps, so stop and report it.
	Auth
	// Invalid: the statement or its parameters are wrong; never retried.
	Invalid
)

// String returns the name used in logs and metrics.
func (k Kind) String() string {
	switch k {
	case Schema:
		return "schema"
	case Auth:
		return "auth"
	case Invalid:
		return "invalid"
	default:
		return "temporary"
	}
}

// ErrClosed is wrapped by the errors of a store that was closed.
var ErrClosed = errors.New("the InfluxDB store is closed")

// Error is the error of every method of a Store.
type Error struct {
	Op     string // ping, write, flush, query or read
	Kind   Kind
	Status int // HTTP status, 0 if there was none
	Err    error
}

func (e *Error) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("influxdb %s: status %d: %v", e.Op, e.Status, e.Err)
	}
	return fmt.Sprintf("influxdb %s: %v", e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the Kind of the first Error in err's chain, and Temporary if
// there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Temporary
}
