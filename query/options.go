package query

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/query/influxquery"
)

// Compat02 as Options.Compat makes the API answer as the released Pulse 0.2.3 did.
const Compat02 = "0.2"

// Bounds of the API. They are generous for people and programs and small for an attacker.
const (
	maxHeaderBytes = 64 << 10
	maxBodyBytes   = 1 << 20
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	// answerSlack is how long reading a request and sending its answer may take, on top of its query's
	// time.
	answerSlack = 30 * time.Second
	// pingTimeout bounds the question to InfluxDB of /status, namesTimeout that of /keys and /tags.
	pingTimeout  = 2 * time.Second
	namesTimeout = 5 * time.Second
	// queueTimeout is how long a history query waits for its turn.
	queueTimeout = 10 * time.Second
)

// Options of a Server. Listener, Latest, Influx, Relays, Journal and Projections are required.
type Options struct {
	Listener net.Listener // bound already; the Server closes it
	TLS      *tls.Config  // nil: plain HTTP
	Token    string       // "" : no token is asked for
	// ReadToken is a second token, which only reads: all that GET answers with but /backup and where
	// alerts post to. "": there is none.
	ReadToken string
	CORS      string // Access-Control-Allow-Origin; "" is "*"
	Compat    string // "" or Compat02
	Version   string // shown by /status

	PollInterval      time.Duration  // default 60 s: /latest looks back twice as far
	AggregateInterval time.Duration  // default 15 min, whole minutes: the slots of /daily
	Location          *time.Location // of /daily's slots; default time.Local

	Latest      Latest
	Influx      Influx
	InfluxQL    influxquery.Store // nil: no /query
	Windows     Windows           // nil: InfluxDB has all there is
	Damages     func() []Damage   // what the embedded InfluxDB found of its files; nil: nothing
	StateFile   []StateDamage     // what was damaged in the state file
	Relays      Relays
	Journal     Journal
	Projections Projections
	Alerts      Alerts       // nil: no /alerts
	Control     Control      // nil: no /overrides and /flush
	Rejects     Rejects      // nil: no /rejects
	Replays     Replays      // nil: no /replay
	Consumers   Consumers    // nil: no /consumers
	Edges       Edges        // at a hub; nil: no /edges
	Uplink      Uplink       // at an edge; nil: this is none
	Backup      Backup       // nil: no /backup
	Live        Live         // nil: no /live
	Metrics     http.Handler // nil: no /metrics

	// Stored is how a name or a tag's value is spelled in InfluxDB, which cannot hold every text, and
	// StoredMeasurement how a measurement's name is; nil: as it is.
	Stored, StoredMeasurement func(string) string

	RawRetention time.Duration // how long single readings are kept in InfluxDB; default 8 h

	// MeansUntil returns the moment (ns) before which rows of InfluxDB may be means of an unknown
	// number of readings, as Pulse 0.2 left them, whatever their count says; nil: there are none. The
	// moment may change while the server runs.
	MeansUntil func() int64

	QueryTimeout   time.Duration // of one history request; default 30 s
	HistoryQueries int           // at once; default 8
	MaxConnections int           // at once: one more waits, or an idle one is closed for it; default 2048

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

func (o *Options) validate() error {
	for _, need := range []struct {
		name string
		is   bool
	}{
		{"Listener", o.Listener != nil},
		{"Latest", o.Latest != nil},
		{"Influx", o.Influx != nil},
		{"Relays", o.Relays != nil},
		{"Journal", o.Journal != nil},
		{"Projections", o.Projections != nil},
	} {
		if !need.is {
			return fmt.Errorf("query: Options.%s is required", need.name)
		}
	}
	if o.Compat != "" && o.Compat != Compat02 {
		return fmt.Errorf("query: api-compat %q is unknown: leave it empty or use %q", o.Compat, Compat02)
	}
	o.PollInterval = cmp.Or(o.PollInterval, time.Minute)
	o.AggregateInterval = cmp.Or(o.AggregateInterval, 15*time.Minute)
	o.RawRetention = cmp.Or(o.RawRetention, 8*time.Hour)
	o.QueryTimeout = cmp.Or(o.QueryTimeout, 30*time.Second)
	o.HistoryQueries = cmp.Or(o.HistoryQueries, 8)
	o.MaxConnections = cmp.Or(o.MaxConnections, 2048)
	if o.AggregateInterval < time.Minute || o.AggregateInterval%time.Minute != 0 {
		return fmt.Errorf("query: aggregate interval %s: use whole minutes, at least one", o.AggregateInterval)
	}
	if o.PollInterval < 0 || o.RawRetention < 0 || o.QueryTimeout < 0 || o.HistoryQueries < 0 || o.MaxConnections < 0 {
		return errors.New("query: intervals, timeouts and limits cannot be negative")
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	asIs := func(s string) string { return s }
	if o.Stored == nil {
		o.Stored = asIs
	}
	if o.StoredMeasurement == nil {
		o.StoredMeasurement = asIs
	}
	if o.MeansUntil == nil {
		o.MeansUntil = func() int64 { return 0 }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
