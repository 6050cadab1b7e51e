// Package influx keeps the journal's readings in InfluxDB: every reading as a
// point (raw.go) and the windows computed from them (aggregates.go).
//
// Both projections write through one seam, Store, with two implementations:
// OpenExternal speaks to an InfluxDB 1.x server over HTTP, and package
// embedded runs the InfluxDB 1.8 engine inside this process. One behavioural
// suite (package influxtest) holds them to the same promises: what was written
// before a Flush that returns nil is durable, writing the same
// points again overwrites and never adds, and what the database will never
// take is counted in the result instead of failing the batch. Nothing here
// retries, buffers or drops on its own: that is the runner's part.
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
	Series *Series
	Fields []Field
	Time   int64 // nanoseconds since 1970, UTC
}

// Field is a named value of a point. Every value Pulse writes is a float, so
// no field ever conflicts with another of our own making.
type Field struct {
	Key   string
	Value float64
}

// Store is an InfluxDB. All methods may be called from any goroutine. All of
// them stop early, with an error that wraps the context's, when ctx ends; a
// write cut short like that may have been stored.
type Store interface {
	// Ping asks whether the store is there and returns its version.
	Ping(ctx context.Context) (version string, err error)

	// Write stores points under a retention policy. Points and their fields are not kept and not
	// changed. A nil error means that every point is either stored, and durable after the next
	// Flush, or counted in the result. With an error the result is zero and the same points should
	// be offered again, which is harmless: equal measurement, tags and time overwrite. The error is
	// an *Error; its Kind says what helps. Batches of any size are accepted and split as the server
	// needs it; 1,000 to 10,000 points are written fastest.
	Write(ctx context.Context, policy Policy, points []Point) (WriteResult, error)

	// Flush returns nil when all that was written under a policy before the
	// call survives a crash. The embedded store writes a file for that, so it
	// is called once in a while; a server has made writes durable already.
	Flush(ctx context.Context, policy Policy) error

	// Query runs one InfluxQL statement; $name in it stands for params[name],
	// a string, bool, float64, integer or time.Time (nothing else is
	// accepted, so that a parameter is a value and never syntax).
	//
	// Values of the rows are the same whatever the store: the column "time"
	// is an int64 (ns), every other number a float64, and the rest string,
	// bool or nil. The error is an *Error; one with Kind Invalid means that
	// the statement itself was refused.
	Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)

	// Close waits for calls that are under way and releases everything. It
	// may be called twice. Later calls return an *Error that wraps ErrClosed.
	Close() error
}

// WriteResult counts what a successful Write did not store. None of these
// points will ever be taken, so that the caller counts them and goes on.
type WriteResult struct {
	// Dropped points were older than the retention policy keeps.
	Dropped int
	// Rejected points were refused: another field type, not representable in
	// InfluxDB (NaN, a field named time, a key over 64 KiB), or a new series
	// beyond the server's limits. The other points of the batch are stored.
	Rejected int
	// Limit says that some of Rejected met max-series-per-database or
	// max-values-per-tag: every new series is being lost, which wants an alarm.
	Limit bool
	// Reason is the text of the first refusal; empty if nothing was rejected.
	Reason string
}

// limitTexts begin the reasons with which InfluxDB refuses any new series.
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
	// Temporary: back off and offer the same call again. The zero value,
	// because trying again is the safe answer to what is not understood.
	Temporary Kind = iota
	// Schema: the database or the retention policy is not there. Create the
	// schema and try again.
	Schema
	// Auth: user and password are refused. Nothing helps but a new
	// configuration, so stop and say so.
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

// Error is what every method of a Store fails with.
type Error struct {
	Op     string // ping, write, flush or query
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
