package query

import (
	"context"
	"errors"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/kapa"
)

// What an implementation of Control or Replays wraps so that the API answers with the fitting status. Any
// other error of it is a 500.
var (
	ErrNotFound  = errors.New("not found") // 404
	ErrInvalid   = errors.New("invalid")   // 400
	ErrTooMany   = errors.New("too many")  // 409
	ErrConnected = errors.New("connected") // 409
)

// Latest is the index of the newest reading of each series. Its methods are called from many goroutines
// at once and answer from memory: they do not block on anything outside.
type Latest interface {
	// Select calls visit for the newest reading of every series of stat that was read at or after since
	// (ns since 1970), or earlier where an override makes polls rarer, and has, for every key of filters, one of that key's values; the value "" is had by
	// a series without that tag. filters is not kept; nil means every series. What visit gets is valid
	// only until it returns.
	Select(stat string, filters map[string][]string, since int64, visit func(Reading))
	// Stats and TagKeys name what there is now, in any order. The slices are not changed.
	Stats() []string
	TagKeys() []string
}

// Reading is the newest value of one series.
type Reading struct {
	Time  int64 // when it was read, ns since 1970
	Value float64
	Tags  []Tag // of the series, host among them; belongs to the index, valid during the visit
}

// Tag is one key and value of a series.
type Tag struct{ Key, Value string }

// Influx runs InfluxQL on the database "statistics".
type Influx interface {
	// Query runs one statement with bound parameters ($name). It returns when ctx ends. It is called
	// from several goroutines at once, and never twice for one request after an error. Times in the rows
	// are int64 ns; numbers are float64, int64 or json.Number; null is nil. A database that is not there
	// yet has no rows, which is no error. If a number is not finite, it may be in the rows, or an error with a
	// method NotFinite() bool that returns true stands for all of them.
	Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error)
	// Ping tells whether the database answers, and its version. It returns when ctx ends.
	Ping(ctx context.Context) (version string, err error)
}

// Relays lists the registry. The slices it returns belong to the caller.
type Relays interface {
	Relays() []Relay
}

// Relay is one registered relay, connected or not.
type Relay struct {
	ID          string      `json:"id"`
	Connected   bool        `json:"connected"`
	Address     string      `json:"address,omitempty"`     // of the connection, host:port; "" while disconnected
	ConnectedAt time.Time   `json:"connected_at,omitzero"` // start of this connection
	LastSeen    time.Time   `json:"last_seen,omitzero"`    // last reading
	Collectors  []Collector `json:"collectors"`
	Polls       uint64      `json:"polls"`      // asked for since the server's start
	Unanswered  uint64      `json:"unanswered"` // of these, without an answer before the next one
	Skipped     uint64      `json:"skipped"`    // polls not sent because the answer to the one before might be under way
	Rejected    uint64      `json:"rejected"`   // readings not taken: no numbers, no usable name, no such collector, duplicates
	// Replaced counts the connections that had to make way for a newer one with the same id; the last of them came
	// from ReplacedAddress.
	Replaced        uint64 `json:"replaced"`
	ReplacedAddress string `json:"replaced_address,omitempty"`
}

// Collector is what a relay advertised by `add`.
type Collector struct {
	Name     string
	Tags     []string      // as sent: key:value or a bare word
	Interval time.Duration // between polls, an override in force included
}

// Alerts are what is watched; *kapa.Alerts is an implementation. It may be absent (Options.Alerts nil): then its
// routes are too. Errors are a *kapa.FieldError (400), kapa.ErrNotFound (404) or kapa.ErrTooMany (409), wrapped or
// not; any other one is a 500. Its methods are called from several goroutines at once and read and write nothing but
// local state.
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
}

// Control changes which relays there are and how they are polled. It may be absent (Options.Control nil): then its routes are too.
type Control interface {
	// Override polls the named collectors of the relays connected now (all, or those listed) more or
	// less often for a while. Errors wrap ErrInvalid where the request is at fault.
	Override(ctx context.Context, o OverrideRequest) (Override, error)
	// Overrides lists those in force.
	Overrides() []Override
	// CancelOverride ends one; ErrNotFound (wrapped) when there is none of that id.
	CancelOverride(ctx context.Context, id string) error
	// Flush asks the listed relays, all when none are listed, to clear what their collectors gathered,
	// and returns how many connected relays were asked.
	Flush(ctx context.Context, relays []string) (int, error)
	// Forget forgets a relay that is not connected, and what was live of it; its history stays. ErrNotFound or
	// ErrConnected (wrapped) says why not. It returns once that is durable, or when ctx ends.
	Forget(ctx context.Context, relay string) error
}

// OverrideRequest asks for an override. The API has validated it: Duration and the intervals are whole
// seconds, at least one, and there is at least one collector.
type OverrideRequest struct {
	Duration   time.Duration
	Collectors map[string]time.Duration // name of the collector → interval between polls
	Relays     []string                 // empty: every relay connected now
}

// Override is one in force.
type Override struct {
	ID         string
	Created    time.Time
	Until      time.Time
	Collectors map[string]time.Duration
	Relays     []string // the ids that it holds for
}

// Journal tells how the journal does. Both methods answer at once, from memory or a local call.
type Journal interface {
	State(ctx context.Context) (JournalState, error)
	// Healthy returns nil, or why nothing can be appended now (its text is shown by /readyz, to anybody).
	Healthy() error
}

// JournalState is what the journal holds.
type JournalState struct {
	FirstSeq, LastSeq   uint64
	FirstTime, LastTime time.Time
	Messages            uint64
	Bytes, MaxBytes     int64         // MaxBytes 0: no limit
	Retention           time.Duration // 0: no limit
	// Lost counts the events that the journal held and lost since it was made (damage, not retention); Gaps are the
	// newest ranges of them found since the start, oldest first.
	Lost uint64
	Gaps []Gap
}

// Projections tells how far the views are.
type Projections interface {
	Projections() []Projection
}

// Projection is the state of one view.
type Projection struct {
	Name       string  `json:"name"`
	State      string  `json:"state"`       // in the runner's words
	Failing    bool    `json:"failing"`     // its sink does not take what it gets: /readyz says degraded
	Position   uint64  `json:"position"`    // saved: a restart begins after it
	Applied    uint64  `json:"applied"`     // last sequence applied
	Lag        uint64  `json:"lag"`         // events not applied yet, those of Backlog aside
	LagSeconds float64 `json:"lag_seconds"` // age of the oldest of these
	Backlog    uint64  `json:"backlog"`     // events passed over, to be live again soon, that are being filled in
	// SecondsToLoss is how long until the journal drops the first event that is not applied, if it goes on
	// like this; null when none waits or the journal keeps everything.
	SecondsToLoss *float64 `json:"seconds_to_loss"`
	Lost          uint64   `json:"lost"`                 // records that the journal had lost before they were applied
	Gaps          []Gap    `json:"gaps"`                 // where: the newest of them, oldest first
	LastError     string   `json:"last_error,omitempty"` // shown by /status only
}

// Gap is a range of records that the journal did not have any more.
type Gap struct {
	From   uint64    `json:"from"` // the first sequence missing
	To     uint64    `json:"to"`   // the last
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"` // when it was found
}

// Rejects lists what sinks refused for good. It may be absent (Options.Rejects nil): then its route is too.
type Rejects interface {
	// Rejects returns what is kept of them, of all projections and in any order. It reads nothing but local
	// state and is called from several goroutines at once. The slice belongs to the caller; an error is a 500.
	Rejects(ctx context.Context) ([]Reject, error)
}

// Reject is something that a sink will never take.
type Reject struct {
	Projection string    `json:"projection"` // its name
	Sequence   uint64    `json:"sequence"`   // of the journal's record
	Relay      string    `json:"relay"`      // "" when it is not known, or there were many
	Stat       string    `json:"stat"`       // "" when it was a whole record, or many readings
	Count      int       `json:"count"`      // readings, or records that could not be read; 0 is shown as 1
	Reason     string    `json:"reason"`     // in the sink's words
	Time       time.Time `json:"time"`       // when it was refused
}
