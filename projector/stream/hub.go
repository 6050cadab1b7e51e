package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

// Why Subscribe refuses a client. API users see the texts.
var (
	// ErrTooManyClients means that there are Options.Clients subscriptions already. Some may end.
	ErrTooManyClients = errors.New("live: too many clients listen already")
	// ErrNotBegun means that the hub's runner was not started yet.
	ErrNotBegun = errors.New("live: the readings do not flow yet")
)

// Hub is the projection that streams readings. What the journal held when the hub began is not
// news: its runner may start at the journal's last record or before it.
//
// Begin, Apply and Tick are the runner's. Subscribe may be called from any goroutine. A hub has
// nothing to stop.
type Hub struct {
	o       Options
	metrics *metrics
	log     *quietlog.Logger
	turns   turns // of the subscriptions that read the journal

	// Of the runner's goroutine.
	encoder *encoder // nil while nobody listens
	batch   []entry

	mu      sync.Mutex // guards what follows; held for no longer than it takes to copy some entries
	begun   bool
	clients int
	epoch   int    // counts Begins
	from    uint64 // the position of the last Begin
	applied uint64 // the last record that does not go through the ring any more
	ring    entries
	changed chan struct{} // closed when applied moves; nil while nobody waits for it
}

// NewHub returns a hub without clients. The error says which option is wrong.
func NewHub(o Options) (*Hub, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Hub{
		o: o, turns: newTurns(o.Readers), ring: newEntries(o.RingRecords, o.RingBytes),
		log: quietlog.New(o.Logger),
	}
	h.metrics = newMetrics(o.Registerer, h.size)
	return h, nil
}

// Name is "sse".
func (h *Hub) Name() string { return "sse" }

// Begin says where the records come from. A second Begin means that the journal is shorter than it
// was. The subscriptions send a gap then, and read again what they need.
func (h *Hub) Begin(_ context.Context, origin projector.Origin) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun = true
	h.epoch++
	h.from, h.applied = origin.Position, max(origin.Position, origin.Last)
	h.ring.reset(h.applied)
	h.wake()
	return nil
}

// Apply puts the events into the ring, if somebody listens. It never fails and never waits for a
// client.
func (h *Hub) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	last := records[len(records)-1].Seq
	h.mu.Lock()
	applied, listened := h.applied, h.clients > 0
	if !listened {
		h.applied = max(applied, last)
	}
	h.mu.Unlock()
	if last <= applied {
		return last, nil
	}
	if !listened {
		h.encoder, h.batch = nil, nil
		return last, nil
	}
	h.encode(records, applied+1)
	h.mu.Lock()
	h.applied = last
	if h.clients == 0 { // the last client left meanwhile
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

// encode fills batch with the entries of the records from number next on.
func (h *Hub) encode(records []journal.Record, next uint64) {
	if h.encoder == nil {
		h.encoder = newEncoder(h.metrics)
	}
	for records[0].Seq < next {
		records = records[1:]
	}
	if first := records[0].Seq; first > next {
		h.batch = append(h.batch, entry{from: next, seq: first - 1})
	}
	for i := range records {
		if e := records[i].Event; e == nil || e.Past {
			continue // what comes late is not live
		}
		if e, ok := h.encoder.encode(records[i].Seq, records[i].Event); ok {
			h.batch = append(h.batch, h.encoder.keep(e))
		}
	}
}

// Tick forgets silent series every five minutes. It never fails.
func (h *Hub) Tick(_ context.Context, now time.Time) (uint64, error) {
	if h.encoder != nil {
		h.encoder.cache.Expire(now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.applied, nil
}

// wake wakes the subscriptions that wait, under the lock.
func (h *Hub) wake() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// size returns what the ring holds, for the metrics.
func (h *Hub) size() (records, bytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ring.Len(), h.ring.bytes
}

// Request says what a subscription holds and where it begins.
type Request struct {
	// Stat is the stat, "" for all.
	Stat string
	// Filters give tags and the values that each may have. A series without the tag has the value
	// "".
	Filters map[string][]string
	// Resume begins with the first record after number After, wherever in the journal that is.
	// Without Resume the subscription begins now.
	Resume bool
	After  uint64
}

// Subscribe returns a subscription, which the caller closes. The errors are ErrTooManyClients and
// ErrNotBegun.
func (h *Hub) Subscribe(r Request) (*Subscription, error) {
	s := &Subscription{h: h, match: newMatcher(r), timer: time.NewTimer(h.o.Heartbeat)}
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
	s.cursor = h.cursorAt(s.pos)
	return s, nil
}

// leave ends a subscription.
func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients--
	h.metrics.clients.Dec()
	if h.clients == 0 {
		h.ring.reset(h.applied)
	}
}

// A cursor is a place in the ring. The zero value is none.
type cursor struct {
	valid bool
	next  uint64 // the number of the entry to come
	epoch int    // of the hub
}

// cursorAt returns the place in the ring after record pos. It is none if the ring does not hold all
// that comes after pos, or will not hold it for long. The caller holds the lock.
func (h *Hub) cursorAt(pos uint64) cursor {
	if pos > h.applied || !h.ring.safe(pos, h.applied) {
		return cursor{}
	}
	return cursor{true, h.ring.find(pos), h.epoch}
}
