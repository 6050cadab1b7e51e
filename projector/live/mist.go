package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

const (
	// DefaultMaxAge is MistOptions.MaxAge if it is not given: the default beat interval.
	DefaultMaxAge = 30 * time.Second
	// DefaultQueue is MistOptions.Queue if it is not given: more than a second of the largest fleet that Pulse
	// is made for, in 8 MB at most.
	DefaultQueue = 1 << 18

	sweepEvery = 5 * time.Minute // how often silent series are forgotten; being wrong costs an encoding
)

// MistOptions configure a Mist. Address is required.
type MistOptions struct {
	// Address is mist's, host:port.
	Address string
	// Token is said to mist first ("": nothing is). It never appears in a log or an error.
	Token string
	// MaxAge is how old a reading may be when it is sent (0: DefaultMaxAge). It is also the patience with a mist
	// that says nothing: a ping every half of it (100 ms to 15 s) must be answered before the next is due.
	MaxAge time.Duration
	// Queue is how many readings may wait (0: DefaultQueue).
	Queue int
	// Decimals is how many a value has (0: as many as it takes to read back the same number). Pulse 0.2 passed on
	// what relays had sent, and its own relays sent four.
	Decimals int
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock by which the age of readings is told (nil: time.Now).
	Now func() time.Time
	// Dial connects to mist (nil: TCP). It must return when ctx ends, and Close of what it returns must end
	// every Read and Write.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

func (o MistOptions) withDefaults() (MistOptions, error) {
	if o.Address == "" {
		return o, errors.New("live: MistOptions needs an Address (host:port)")
	}
	if o.Dial == nil {
		if _, _, err := net.SplitHostPort(o.Address); err != nil {
			return o, fmt.Errorf("live: MistOptions.Address must be host:port: %w", err)
		}
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if o.MaxAge < 0 || o.Queue < 0 || o.Decimals < 0 {
		return o, errors.New("live: MistOptions.MaxAge, Queue and Decimals cannot be negative")
	}
	if o.Decimals == 0 {
		o.Decimals = shortest
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// Mist is the projection that publishes on mist. Apply and Tick are its runner's; Start (or Run), Stop and Status
// may be called from any goroutine.
type Mist struct {
	o       MistOptions
	log     *slog.Logger
	metrics *metrics
	queue   *queue

	// Of the runner's goroutine.
	topics    *topics
	messages  []message // of one event
	applied   uint64
	nextSweep time.Time

	// Of the goroutine that runs; see run.go.
	batch    []message
	buf      []byte
	links    int // connections made
	failures retry.Failures

	cut     chan struct{} // closed when there is no time left to send what is queued
	cutOnce sync.Once
	done    chan struct{} // closed when nothing runs any more

	published, dropped atomic.Uint64

	mu      sync.Mutex // guards what follows
	cancel  context.CancelFunc
	started bool
	status  Status
}

// Status is what a Mist tells about itself.
type Status struct {
	// Connected is true while there is a connection that mist has answered on, and Since when.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	// LastError says why there is none, and what to do about it. It is empty when connected.
	LastError string `json:"last_error,omitempty"`
	// Published counts the readings handed to TCP, Dropped those that never will be, Queued those that wait.
	Published uint64 `json:"published"`
	Dropped   uint64 `json:"dropped"`
	Queued    int    `json:"queued"`
}

// NewMist returns a Mist that does nothing yet. The error says which option is wrong, or that the registry has the
// metrics of another Mist.
func NewMist(o MistOptions) (*Mist, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Mist{
		o: o, log: o.Logger.With("mist", o.Address), queue: newQueue(o.Queue), topics: newTopics(),
		cut: make(chan struct{}), done: make(chan struct{}),
	}
	m.metrics, err = newMetrics(o.Registerer, func() float64 { return float64(m.queue.len()) })
	if err != nil {
		return nil, fmt.Errorf("live: registering the metrics of mist: %w", err)
	}
	return m, nil
}

// Name is "mist".
func (m *Mist) Name() string { return "mist" }

// Apply queues the readings of the records. It never fails and never waits for mist.
func (m *Mist) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	oldest := m.oldest()
	for i := range records {
		e := records[i].Event
		switch {
		case e == nil:
		case e.Time < oldest: // a runner that is behind
			m.drop(m.metrics.old, e.Readings())
		default:
			m.messages = m.topics.appendMessages(m.messages[:0], e)
			dropped, open := m.queue.push(m.messages)
			m.drop(m.metrics.full, dropped)
			if !open {
				m.drop(m.metrics.stopped, len(m.messages))
			}
		}
	}
	m.applied = records[len(records)-1].Seq
	return m.applied, nil
}

// Tick drops what has become too old while there was no connection, and forgets silent series every five
// minutes. It never fails.
func (m *Mist) Tick(_ context.Context, now time.Time) (uint64, error) {
	m.drop(m.metrics.old, m.queue.expire(m.oldest()))
	if m.nextSweep.IsZero() {
		m.nextSweep = now.Add(sweepEvery)
	}
	if wait := m.nextSweep.Sub(now); wait <= 0 || wait > sweepEvery { // or the clock stepped back
		m.nextSweep = now.Add(sweepEvery)
		m.topics.sweep()
	}
	return m.applied, nil
}

// oldest is the time of the oldest event that may still be sent, in nanoseconds since 1970 UTC.
func (m *Mist) oldest() int64 { return m.o.Now().Add(-m.o.MaxAge).UnixNano() }

// drop counts readings that will not be sent.
func (m *Mist) drop(reason prometheus.Counter, n int) {
	if n > 0 {
		reason.Add(float64(n))
		m.dropped.Add(uint64(n))
	}
}

// Status says how it goes.
func (m *Mist) Status() Status {
	m.mu.Lock()
	s := m.status
	m.mu.Unlock()
	s.Published, s.Dropped, s.Queued = m.published.Load(), m.dropped.Load(), m.queue.len()
	return s
}
