package ingest

import (
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

const (
	// identifyTimeout is how long a new connection has for its TLS handshake and its id line.
	identifyTimeout = 10 * time.Second
	// writeTimeout is how long one write to a relay may take before it counts as stuck.
	writeTimeout = 10 * time.Second
	// farewellTimeout bounds the last write to a connection that is being closed, and lingerTimeout how long its other side has
	// to read it: a close with unread input behind it would make the kernel throw the error line away.
	farewellTimeout = 2 * time.Second
	lingerTimeout   = time.Second
	// gatherDelay is how long the first poll waits for the adds that follow the first one.
	gatherDelay = 200 * time.Millisecond
	// drainGrace is how long Stop waits for the answers to polls that are under way.
	drainGrace = time.Second
)

// Journal takes what relays answered. Append and AppendRelayEvent are called from many goroutines at once, may block until the
// event is durable or ctx ends, and keep nothing of the event after they return. An error means that the event is lost.
type Journal interface {
	Append(ctx context.Context, e *codec.Event) (seq uint64, err error)
	AppendRelayEvent(ctx context.Context, e *codec.RelayEvent) (seq uint64, err error)
}

// Limits bound what relays can make the server hold. Zero values mean the defaults.
type Limits struct {
	// Relays is how many relays may be connected and identified (20,000).
	Relays int
	// Unidentified is how many connections may exist that have not said their id yet (10,000): enough for every relay of a node that
	// reconnects at the same moment.
	Unidentified int
	// Collectors is how many collectors one relay may add (1,000).
	Collectors int
	// Series is how many different stats one relay may answer, all collectors together, counted since they were
	// added (2,000).
	Series int
	// Known is how many relays that are not connected are remembered (20,000), the latest ones, and KnownFor how long (7 days).
	Known    int
	KnownFor time.Duration
}

// Options are what a [Server] needs. Listener, Journal and DB are required.
type Options struct {
	// Listener accepts the relays. The server closes it in Stop. If New fails it is still the caller's.
	Listener net.Listener
	// TLS, if set, is spoken on every connection.
	TLS *tls.Config
	// Journal takes the events. It has to stay open until Stop has returned.
	Journal Journal
	// DB is the state file. The buckets "relays" and "overrides" are made when they are missing. It has to stay open until Stop has returned.
	DB *bolt.DB
	// PollInterval is how often collectors are polled (60 s), BeatInterval how often relays are told to ping (30 s). Nothing heard
	// for two beats closes a connection.
	PollInterval, BeatInterval time.Duration
	// Token, if set, has to follow the id of every relay.
	Token string
	// Limits bound the relays.
	Limits Limits
	// Logger may be nil for silence, Registerer nil for metrics that nobody sees.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock of events and overrides (time.Now). Deadlines and the poll schedule do not follow it, so that setting the clock disturbs
	// neither.
	Now func() time.Time
}

const tokenHint = "use at most 255 bytes without spaces and control characters"

// withDefaults returns o with every zero value replaced, or why it cannot be used.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	require := func(ok bool, option, hint string) {
		if !ok {
			errs = append(errs, &Error{Op: "options", Subject: option, Err: fmt.Errorf("%w: %s", ErrInvalid, hint)})
		}
	}
	require(o.Listener != nil, "Listener", "pass a bound listener")
	require(o.Journal != nil, "Journal", "pass an open journal")
	require(o.DB != nil, "DB", "pass an open bbolt database")
	setDuration(&o.PollInterval, 60*time.Second)
	setDuration(&o.BeatInterval, 30*time.Second)
	require(o.PollInterval >= 10*time.Millisecond && o.PollInterval <= relaywire.MaxDuration, "PollInterval", "use a whole number of seconds, 1 or more")
	require(o.BeatInterval >= 10*time.Millisecond && o.BeatInterval <= relaywire.MaxDuration, "BeatInterval", "use a whole number of seconds, 1 or more")
	require(o.Token == "" || relaywire.ValidToken(o.Token), "Token", tokenHint)
	l := &o.Limits
	for _, n := range []struct {
		value *int
		def   int
		name  string
	}{
		{&l.Relays, 20_000, "Relays"},
		{&l.Unidentified, 10_000, "Unidentified"},
		{&l.Collectors, 1_000, "Collectors"},
		{&l.Series, 2_000, "Series"},
		{&l.Known, 20_000, "Known"},
	} {
		if *n.value == 0 {
			*n.value = n.def
		}
		require(*n.value > 0, "Limits."+n.name, "use a positive number, or 0 for the default")
	}
	setDuration(&l.KnownFor, 7*24*time.Hour)
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

func setDuration(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}
