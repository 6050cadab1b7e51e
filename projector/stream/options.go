package stream

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/projector"
)

// Defaults of Options.
const (
	DefaultRingRecords = 1 << 15
	DefaultRingBytes   = 16 << 20
	DefaultClients     = 256
	DefaultReaders     = 16
	DefaultHeartbeat   = 15 * time.Second
)

// Options configure a Hub. Journal is required.
type Options struct {
	// Journal is where a client that resumes reads what the ring does not hold.
	Journal projector.Source
	// RingRecords and RingBytes bound the ring (0: the defaults). So far may a client be behind, or
	// away while others listen, before the journal has to be read for it.
	RingRecords, RingBytes int
	// Clients is the largest number of subscriptions, Readers how many of them read the journal at
	// a time (0: the defaults).
	Clients, Readers int
	// Heartbeat is the longest silence of a subscription (0: DefaultHeartbeat).
	Heartbeat time.Duration
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() (Options, error) {
	if o.Journal == nil {
		return o, errors.New("stream: Options needs a Journal")
	}
	if min(o.RingRecords, o.RingBytes, o.Clients, o.Readers, int(o.Heartbeat)) < 0 {
		return o, errors.New("stream: Options cannot be negative")
	}
	o.RingRecords = cmp.Or(o.RingRecords, DefaultRingRecords)
	o.RingBytes = cmp.Or(o.RingBytes, DefaultRingBytes)
	o.Clients = cmp.Or(o.Clients, DefaultClients)
	o.Readers = cmp.Or(o.Readers, DefaultReaders)
	o.Heartbeat = cmp.Or(o.Heartbeat, DefaultHeartbeat)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return o, nil
}
