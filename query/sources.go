package query

import (
	"context"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/journal/outside"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/past"
)

// The API reads and changes everything through the interfaces of this file. The values that go
// through them are those of the rooms, which look in the answers as their rooms declare them. The
// errors of the rooms choose the status: see answerTo. A method of an interface is called from many
// goroutines at once.

// Latest is the index of the newest reading of each series. It answers from memory: its methods do
// not block on anything outside. *latest.Latest is the implementation.
type Latest interface {
	// Select calls visit for the newest reading of every series of stat that was read at or after
	// since (ns since 1970), or earlier where an override makes polls rarer, and that has, for every
	// key of filters, one of that key's values. A series without the tag has the value "". filters is
	// not kept; nil means every series. What visit gets is valid only until it returns.
	Select(stat string, filters map[string][]string, since int64, visit func(latest.Reading))
	// Stats and TagKeys name what there is now, in any order. The slices are not changed.
	Stats() []string
	TagKeys() []string
}

// Influx runs InfluxQL on the database "statistics".
type Influx interface {
	// Query runs one statement with bound parameters ($name). It returns when ctx ends. It is never
	// called twice for one request after an error. Times in the rows are int64 ns; numbers are
	// float64, int64 or json.Number; null is nil. A database that is not there yet has no rows, which
	// is no error. If a number is not finite, it may be in the rows, or an error with a method
	// NotFinite() bool that returns true stands for all of them.
	Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)
	// Ping returns the version of the database, or why it does not answer. It returns when ctx ends.
	Ping(ctx context.Context) (version string, err error)
}

// Windows are the aggregates that InfluxDB does not have yet as they are. *influx.Aggregates is the
// implementation. Without it (Options.Windows nil) history is what InfluxDB has.
type Windows interface {
	// Unwritten calls visit with the rows of stat that InfluxDB does not have, and returns the ranges
	// of time, within [from, to), that they are for: InfluxDB's rows of these ranges are not used. stat
	// is spelled as InfluxDB holds it. Unwritten answers from memory and does not wait for InfluxDB.
	// visit must be quick.
	Unwritten(stat string, from, to int64, visit func(influx.WindowRow)) []influx.TimeRange
}

// Relays lists the registry. *ingest.Server is the implementation.
type Relays interface {
	// Relays lists the relays by id. The slices that it returns belong to the caller.
	Relays() []ingest.Relay
	// Units returns what the values of stats are in, by stat, where relays have said so. The map
	// belongs to the caller.
	Units() map[string]string
}

// Control changes which relays there are and how they are polled. *ingest.Server is the
// implementation. Without it (Options.Control nil) there are no routes for it.
type Control interface {
	// Override polls the named collectors of the relays connected now (all, or those listed) more or
	// less often for a while.
	Override(ctx context.Context, o ingest.OverrideRequest) (ingest.Override, error)
	// Overrides lists those in force. The slice belongs to the caller and is not nil.
	Overrides() []ingest.Override
	// CancelOverride ends an override.
	CancelOverride(id string) error
	// Flush asks the listed relays, all when none are listed, to clear what their collectors
	// gathered. It returns how many connected relays were asked.
	Flush(relays []string) int
	// Forget forgets a relay that is not connected, and what was live of it. Its history stays.
	// Forget returns once that is durable, or when ctx ends.
	Forget(ctx context.Context, relay string) error
}

// Alerts are what is watched. *kapa.Alerts is the implementation. Without it (Options.Alerts nil)
// there are no routes for it. Its methods read and write nothing but local state, and all but Try
// answer at once.
type Alerts interface {
	// Create keeps a new alert and gives it an id.
	Create(alert kapa.Alert) (kapa.View, error)
	// Update replaces the alert that has the id.
	Update(alert kapa.Alert) (kapa.View, error)
	// Delete forgets one.
	Delete(id string) error
	Get(id string) (kapa.View, error)
	// List returns all of them, ordered by id. The slice belongs to the caller.
	List() ([]kapa.View, error)
	// Try runs the evaluator over the journal, and changes nothing. It ends with ctx. Its errors are
	// ctx's and the journal's.
	Try(ctx context.Context, q kapa.TrialRequest) (kapa.Trial, error)
}

// Journal reports how the journal does. *journal.Journal is the implementation. Its methods answer
// at once, from memory or a local call.
type Journal interface {
	State(ctx context.Context) (journal.State, error)
	// Losses are the events that the journal held and lost (damage, not retention).
	Losses() journal.Losses
	// Healthy returns nil, or why nothing can be appended now. /readyz shows its text to anybody.
	Healthy() error
}

// Consumers are the positions that NATS clients keep in the journal. *journal.Journal is the
// implementation. Without it (Options.Consumers nil) there are no routes for it.
type Consumers interface {
	// Consumers lists them by name. The slice is not nil. Both methods return when ctx ends.
	Consumers(ctx context.Context) ([]outside.Consumer, error)
	// DeleteConsumer deletes one.
	DeleteConsumer(ctx context.Context, name string) error
}

// Edges are those of a hub. *link.Hub is the implementation. Without it (Options.Edges nil) there is
// no route for it, and no request may name an edge.
type Edges interface {
	// Edges lists the edges that are known, in any order. It answers from memory, as RefusedNames
	// does, which lists the newest connections under names that no edge has. The caller does not
	// change what it gets.
	Edges() []link.Edge
	RefusedNames() []link.UnknownEdge
	// Ask asks an edge what Asked answers there. It is never called twice for one request. It returns
	// when ctx ends. The errors are link.ErrNoEdge and link.ErrDown (nothing reached the edge),
	// *link.Refused (the edge's own), and others, after which the edge may have done it or not.
	Ask(ctx context.Context, edge, what string, body []byte) ([]byte, error)
}

// Uplink is an edge's link to its hub. *link.Uplink is the implementation.
type Uplink interface {
	// Status answers from memory.
	Status() link.UplinkStatus
}

// Projections reports how far the views are.
type Projections interface {
	Projections() []projector.Status
}

// Rejects lists what sinks refused for good. *projector.Rejects is the implementation. Without it
// (Options.Rejects nil) there is no route for it.
type Rejects interface {
	// List returns what is kept of them, of all projections. It reads nothing but local state. The
	// slice belongs to the caller and is not nil.
	List() ([]projector.Reject, error)
}

// Replays rebuild ranges of the views from the journal. *past.Replays is the implementation. Without it
// (Options.Replays nil) there are no routes for it. Its methods read and write nothing but local state.
type Replays interface {
	// Create adds a replay, which runs on its own.
	Create(past.Request) (past.Job, error)
	// List returns those that are waiting, running or ended lately, the newest first. The slice belongs
	// to the caller and is not nil.
	List() []past.Job
	Get(id string) (past.Job, error)
	// Cancel ends a replay and returns what became of it. A replay that has ended stays as it is.
	Cancel(id string) (past.Job, error)
}
