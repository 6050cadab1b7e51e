package mist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultMaxAge is Options.MaxAge if it is not given: the default beat interval.
	DefaultMaxAge = 30 * time.Second
	// DefaultQueue is Options.Queue if it is not given: more than a second of the largest fleet
	// that Pulse is made for, in 8 MB at most.
	DefaultQueue = 1 << 18
)

// Options configure a Sink. Address is required.
type Options struct {
	// Address is mist's, host:port.
	Address string
	// Token is what mist is told first ("": nothing). It never appears in a log or an error.
	Token string
	// MaxAge is how old a reading may be when it is sent (0: DefaultMaxAge). It is also the
	// patience with a mist that sends nothing: a ping every half of it (100 ms to 15 s) must be
	// answered before the next is due.
	MaxAge time.Duration
	// Queue is how many readings may wait (0: DefaultQueue).
	Queue int
	// Decimals is how many a value has (0: as many as it takes to read back the same number). Pulse
	// 0.2 passed on what relays had sent, and its own relays sent four.
	Decimals int
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock that readings are compared with (nil: time.Now).
	Now func() time.Time
	// Dial connects to mist (nil: TCP). It must return when ctx ends, and Close of what it returns
	// must end every Read and Write.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (o Options) withDefaults() (Options, error) {
	if o.Address == "" {
		return o, errors.New("mist: Options needs an Address (host:port)")
	}
	if o.Dial == nil {
		if _, _, err := net.SplitHostPort(o.Address); err != nil {
			return o, fmt.Errorf("mist: Options.Address must be host:port: %w", err)
		}
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if min(int(o.MaxAge), o.Queue, o.Decimals) < 0 {
		return o, errors.New("mist: Options.MaxAge, Queue and Decimals cannot be negative")
	}
	o.Decimals = cmp.Or(o.Decimals, shortest)
	o.MaxAge = cmp.Or(o.MaxAge, DefaultMaxAge)
	o.Queue = cmp.Or(o.Queue, DefaultQueue)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}
