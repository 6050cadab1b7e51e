package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// Defaults of HubOptions.
const (
	DefaultRingRecords = 1 << 15
	DefaultRingBytes   = 16 << 20
	DefaultClients     = 256
	DefaultReaders     = 16
	DefaultHeartbeat   = 15 * time.Second
)

// Why a Subscribe was refused.
var (
	// ErrTooManyClients means that there are HubOptions.Clients already. Some may go.
	ErrTooManyClients = errors.New("live: too many clients listen already")
	// ErrNotBegun means that the hub's runner was not started yet.
	ErrNotBegun = errors.New("live: the readings do not flow yet")
)

// HubOptions configure a Hub. Journal is required.
type HubOptions struct {
	// Journal is where a client that resumes reads what the ring does not hold.
	Journal projector.Source
	// RingRecords and RingBytes bound the ring: how long a client may be slow, or away while others listen, before the
	// journal has to be read for it (0: the defaults).
	RingRecords, RingBytes int
	// Clients is how many streams there are at most, Readers how many of them read the journal at a time (0: the defaults).
	Clients, Readers int
	// Heartbeat is how long a stream says nothing at most (0: DefaultHeartbeat).
	Heartbeat time.Duration
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o HubOptions) withDefaults() (HubOptions, error) {
	if o.Journal == nil {
		return o, errors.New("live: HubOptions needs a Journal")
	}
	for _, n := range []struct {
		is  *int
		def int
	}{{&o.RingRecords, DefaultRingRecords}, {&o.RingBytes, DefaultRingBytes}, {&o.Clients, DefaultClients}, {&o.Readers, DefaultReaders}} {
		if *n.is < 0 {
			return o, errors.New("live: HubOptions cannot be negative")
		}
		if *n.is == 0 {
			*n.is = n.def
		}
	}
	if o.Heartbeat < 0 {
		return o, errors.New("live: HubOptions cannot be negative")
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return o, nil
}

// Hub is the projection that streams readings as server-sent events. What the journal held when it began is not news: its
// runner may start at the journal's end or before it.
//
// While somebody listens it keeps the newest events in a ring, encoded once for all. A [Stream] reads from the ring and has
// nothing else: no goroutine, no queue. While nobody listens a record costs next to nothing and nothing is kept.
//
// Begin, Apply and Tick are the runner's, Subscribe may be called from any goroutine. A hub has nothing to stop.
type Hub struct {
	o       HubOptions
	metrics *hubMetrics
	warn    rate.Sometimes
	readers chan struct{} // holds a value for each stream that reads the journal

	// Of the runner's goroutine.
	encoder   *encoder // nil while nobody listens
	batch     []entry
	nextSweep time.Time

	mu      sync.Mutex // guards what follows; held for no longer than it takes to copy some entries
	begun   bool
	clients int
	waiting int    // streams that wait for a turn to read the journal
	epoch   int    // counts Begins
	from    uint64 // the record behind which the last Begin was
	applied uint64 // the last record that was applied, or there at the last Begin: those behind it go through the ring
	ring    ring
	changed chan struct{} // closed when applied moves; nil while nobody waits for it
}

// NewHub returns a hub without clients. The error says which option is wrong, or that the registry has the metrics of
// another hub.
func NewHub(o HubOptions) (*Hub, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Hub{
		o: o, readers: make(chan struct{}, o.Readers), ring: ring{maxRecords: o.RingRecords, maxBytes: o.RingBytes},
		warn: rate.Sometimes{First: 1, Interval: time.Minute},
	}
	if h.metrics, err = newHubMetrics(o.Registerer, h.size); err != nil {
		return nil, fmt.Errorf("live: registering the metrics of the hub: %w", err)
	}
	return h, nil
}

// Name is "sse".
func (h *Hub) Name() string { return "sse" }

// Begin says where the records come from. Called again, it means that the journal is shorter than it was: streams are told,
// and read again what they need.
func (h *Hub) Begin(_ context.Context, span projector.Origin) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun = true
	h.epoch++
	h.from, h.applied = span.Position, max(span.Position, span.Last)
	h.ring.reset(h.applied)
	h.wake()
	return nil
}

// Apply puts the events into the ring, if somebody listens. It never fails and never waits for a client.
func (h *Hub) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	last := records[len(records)-1].Seq
	h.mu.Lock()
	if last <= h.applied {
		h.mu.Unlock()
		return last, nil
	}
	expected := h.applied + 1
	for records[0].Seq < expected {
		records = records[1:]
	}
	if h.clients == 0 {
		h.applied = last
		h.mu.Unlock()
		h.encoder, h.batch = nil, nil
		return last, nil
	}
	h.mu.Unlock()

	if h.encoder == nil {
		h.encoder = newEncoder(h.metrics)
	}
	if first := records[0].Seq; first > expected {
		h.batch = append(h.batch, entry{from: expected, seq: first - 1})
	}
	for i := range records {
		if e := records[i].Event; e != nil {
			h.batch = h.encoder.appendEntry(h.batch, records[i].Seq, e)
		}
	}

	h.mu.Lock()
	h.applied = last
	if h.clients == 0 { // the last one went meanwhile
		h.ring.reset(last)
	} else {
		h.ring.push(h.batch)
	}
	h.wake()
	h.mu.Unlock()
	clear(h.batch)
	h.batch = h.batch[:0]
	return last, nil
}

// Tick forgets the spelling of silent series every five minutes. It never fails.
func (h *Hub) Tick(_ context.Context, now time.Time) (uint64, error) {
	if h.nextSweep.IsZero() {
		h.nextSweep = now.Add(sweepEvery)
	}
	if wait := h.nextSweep.Sub(now); wait <= 0 || wait > sweepEvery { // or the clock stepped back
		h.nextSweep = now.Add(sweepEvery)
		if h.encoder != nil {
			h.encoder.cache.Sweep()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.applied, nil
}

// wake wakes the streams that wait, under the lock.
func (h *Hub) wake() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// size is what the ring holds, for the metrics.
func (h *Hub) size() (records, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ring.len(), h.ring.bytes
}

// Request says what a stream is to hold and where it begins.
type Request struct {
	// Stat is the stat, "" for all.
	Stat string
	// Filters give tags and the values that each may have. A series without the tag has the value "".
	Filters map[string][]string
	// Resume begins with the first record behind After, wherever in the journal that is. Without it the stream begins now.
	Resume bool
	After  uint64
}

// Subscribe returns a stream, which must be closed. The errors are ErrTooManyClients and ErrNotBegun.
func (h *Hub) Subscribe(r Request) (*Stream, error) {
	s := &Stream{h: h, match: newMatcher(r), timer: time.NewTimer(h.o.Heartbeat)}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.begun:
		return nil, ErrNotBegun
	case h.clients >= h.o.Clients:
		h.metrics.refused.Inc()
		return nil, ErrTooManyClients
	}
	if h.clients == 0 {
		h.ring.reset(h.applied)
	}
	h.clients++
	h.metrics.clients.Inc()
	s.pos = h.applied
	if r.Resume {
		s.pos = r.After
		h.metrics.resumed.Inc()
	}
	s.meetLocked()
	return s, nil
}

// leave is the end of a stream.
func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients--
	h.metrics.clients.Dec()
	if h.clients == 0 {
		h.ring.reset(h.applied)
	}
}
