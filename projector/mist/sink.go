package mist

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

// Sink is the projection that publishes on mist. Apply and Tick are its runner's; Start, Stop and
// Status may be called from any goroutine.
type Sink struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	queue   *queue

	// Of the runner's goroutine.
	topics   *topics
	messages []message // of one event
	applied  uint64

	// Of the goroutine that publishes; see loop.go.
	batch    []message
	buf      []byte
	links    int // connections made
	failures retry.Failures

	stopping context.Context // ends when Stop is called
	stop     context.CancelFunc
	limit    context.Context // ends when a stop may not take longer
	cut      context.CancelFunc
	done     chan struct{} // closed when nothing runs any more

	published, dropped atomic.Uint64

	mu      sync.Mutex // guards what follows
	started bool
	status  Status
}

// Status is the state of a Sink.
type Status struct {
	// Connected is true while there is a connection that mist has answered on, and Since when.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
	// LastError says why there is none, and what to do about it. It is empty when connected.
	LastError string `json:"last_error,omitempty"`
	// Published counts the readings handed to TCP, Dropped those that never will be, Queued those
	// that wait.
	Published uint64 `json:"published"`
	Dropped   uint64 `json:"dropped"`
	Queued    int    `json:"queued"`
}

// New returns a Sink that does nothing yet. The error says which option is wrong.
func New(o Options) (*Sink, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Sink{
		o: o, log: o.Logger.With("mist", o.Address), queue: newQueue(o.Queue), topics: newTopics(), done: make(chan struct{}),
	}
	m.stopping, m.stop = context.WithCancel(context.Background())
	m.limit, m.cut = context.WithCancel(context.Background())
	m.metrics = newMetrics(o.Registerer, func() float64 { return float64(m.queue.len()) })
	return m, nil
}

// Name is "mist".
func (m *Sink) Name() string { return "mist" }

// Apply queues the readings of the records. It never fails and never waits for mist.
func (m *Sink) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	oldest := m.oldest()
	for i := range records {
		e := records[i].Event
		switch {
		case e == nil || e.Past: // what comes late is not live
		case e.Time < oldest: // the runner lags
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

// Tick drops what has become too old while there was no connection, and forgets silent series every
// five minutes. It never fails.
func (m *Sink) Tick(_ context.Context, now time.Time) (uint64, error) {
	m.drop(m.metrics.old, m.queue.expire(m.oldest()))
	m.topics.cache.Expire(now)
	return m.applied, nil
}

// oldest returns the time of the oldest event that may still be sent, in nanoseconds since 1970
// UTC.
func (m *Sink) oldest() int64 { return m.o.Now().Add(-m.o.MaxAge).UnixNano() }

// drop counts readings that will not be sent.
func (m *Sink) drop(reason prometheus.Counter, n int) {
	if n > 0 {
		reason.Add(float64(n))
		m.dropped.Add(uint64(n))
	}
}

// Status returns the state of the sink.
func (m *Sink) Status() Status {
	m.mu.Lock()
	s := m.status
	m.mu.Unlock()
	s.Published, s.Dropped, s.Queued = m.published.Load(), m.dropped.Load(), m.queue.len()
	return s
}

func (m *Sink) setStatus(s Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = s
}
