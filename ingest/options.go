package ingest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

// Journal takes what relays answered. Its methods are called from many goroutines at once, may
// block until the event is durable or ctx ends, and keep nothing of the event after they return. An
// error means that the event is lost.
type Journal interface {
	Append(ctx context.Context, e *codec.Event) (seq uint64, err error)
	AppendRelayEvent(ctx context.Context, e *codec.RelayEvent) (seq uint64, err error)
	// Spooled returns what the relay's newest event, and its newest from the past, say of its spool.
	Spooled(ctx context.Context, relay string) (took, past codec.Spool, err error)
}

// Limits bound what relays can make the server hold. Zero values mean the defaults.
type Limits struct {
	// Relays is how many relays may be connected and identified (20,000).
	Relays int
	// Unidentified is how many connections may exist that have not said their id yet (10,000):
	// enough for every relay of a node that reconnects at the same moment.
	Unidentified int
	// Collectors is how many collectors one relay may add (1,000).
	Collectors int
	// Series is how many different stats one relay may answer, all collectors together, counted
	// since the collectors were added (2,000).
	Series int
	// Known is how many relays that are not connected are remembered (20,000), the latest ones, and
	// KnownFor how long (7 days).
	Known    int
	KnownFor time.Duration
}

// Options are what a [Server] needs. Listener, Journal and DB are required.
type Options struct {
	// Listener accepts the relays. The server closes it in Stop. If New fails it is still the
	// caller's.
	Listener net.Listener
	// TLS, if set, is spoken on every connection.
	TLS *tls.Config
	// Journal takes the events. It has to stay open until Stop has returned.
	Journal Journal
	// DB is the state file. The buckets "relays", "relays_alive" and "overrides" are made when they
	// are missing. It has to stay open until Stop has returned.
	DB *bolt.DB
	// PollInterval is how often collectors are polled (60 s), BeatInterval how often relays are
	// told to ping (30 s). Nothing heard for two beats closes a connection.
	PollInterval, BeatInterval time.Duration
	// PastFor is how old a reading from a relay's spool may be (7 days).
	PastFor time.Duration
	// Token, if set, has to follow the id of every relay.
	Token string
	// Limits bound the relays.
	Limits Limits
	// Logger may be nil for silence, Registerer nil for metrics that nobody sees.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock of events (time.Now). Deadlines, the poll schedule and the length of
	// overrides do not follow it, so that setting the clock disturbs none of them.
	Now func() time.Time
}

// withDefaults returns o with every zero value replaced, or why it cannot be used.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	require := func(ok bool, option, hint string) {
		if !ok {
			errs = append(errs, invalidOption(option, hint))
		}
	}
	require(o.Listener != nil, "Listener", "pass a bound listener")
	require(o.Journal != nil, "Journal", "pass an open journal")
	require(o.DB != nil, "DB", "pass an open bbolt database")
	interval := func(d *time.Duration, def time.Duration, option string) {
		*d = cmp.Or(*d, def)
		ok := *d >= 10*time.Millisecond && *d <= relaywire.MaxDuration
		require(ok, option, "use a whole number of seconds, 1 or more")
	}
	interval(&o.PollInterval, 60*time.Second, "PollInterval")
	interval(&o.BeatInterval, 30*time.Second, "BeatInterval")
	o.PastFor = cmp.Or(o.PastFor, 7*24*time.Hour)
	require(o.PastFor > 0, "PastFor", "use a positive duration")
	require(o.Token == "" || relaywire.ValidToken(o.Token), "Token", tokenHint)
	limit := func(n *int, def int, name string) {
		*n = cmp.Or(*n, def)
		require(*n > 0, "Limits."+name, "use a positive number, or 0 for the default")
	}
	l := &o.Limits
	limit(&l.Relays, 20_000, "Relays")
	limit(&l.Unidentified, 10_000, "Unidentified")
	limit(&l.Collectors, 1_000, "Collectors")
	limit(&l.Series, 2_000, "Series")
	limit(&l.Known, 20_000, "Known")
	l.KnownFor = cmp.Or(l.KnownFor, 7*24*time.Hour)
	require(l.KnownFor > 0, "Limits.KnownFor", "use a positive duration, or 0 for the default")
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, errors.Join(errs...)
}

const tokenHint = "use at most 255 bytes without spaces and control characters"

func invalidOption(option, hint string) error {
	return &Error{Op: "options", Subject: option, Err: fmt.Errorf("%w: %s", ErrInvalid, hint)}
}
