package ingest

import (
	"container/list"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal/codec"
)

// Relay is what the registry knows of one relay.
type Relay struct {
	ID string `json:"id"`
	// Connected reports whether it is connected now, RemoteAddr and ConnectedAt from where and
	// since when; both are empty otherwise.
	Connected   bool      `json:"connected"`
	RemoteAddr  string    `json:"address,omitempty"`
	ConnectedAt time.Time `json:"connected_at,omitzero"`
	// LastSeen is the time of its last event, zero if there was none yet. It outlives a restart.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Collectors are in the order in which they were added; never nil.
	Collectors []Collector `json:"collectors"`
	// Spool is what the relay said last of its spool; nil if it has none.
	Spool *RelaySpool `json:"spool,omitempty"`
	// RelayCounts are counted since the server's start.
	RelayCounts
}

// RelaySpool says how full the spool of a [Relay] is.
type RelaySpool struct {
	// Waiting is how many records wait there, Dropped how many readings it ever had no room for.
	Waiting uint64 `json:"waiting_records"`
	Dropped uint64 `json:"dropped_readings"`
}

// RelayCounts count what became of one relay's polls, readings and connections.
type RelayCounts struct {
	// Polls were sent, of which Unanswered had no answer before the next one was sent. Skipped were
	// not sent because the answer to the one before might be under way.
	Polls      uint64 `json:"polls"`
	Unanswered uint64 `json:"unanswered"`
	Skipped    uint64 `json:"skipped"`
	// Rejected readings were not taken.
	Rejected uint64 `json:"rejected"`
	// Replaced connections had to make way for a newer one with the same id; the last of them came
	// from ReplacedAddr. Two hosts with one id do that to each other for ever.
	Replaced     uint64 `json:"replaced"`
	ReplacedAddr string `json:"replaced_address,omitempty"`
}

// Collector is one collector of a [Relay]. Interval is how often it is polled now, overrides
// included.
type Collector struct {
	Name     string          `json:"name"`
	Tags     []string        `json:"tags"` // as sent: key:value or a bare word; never nil
	Interval apijson.Seconds `json:"interval"`
}

// relay is everything that is known of one relay, connected or not. What it has to say to others
// goes into queues: lines to its connection, relay events to the journal, changes of its record to
// the state file. So its methods never wait, except got for the journal.
//
// Lock order: overrideStore.change, registry.mu, relay.mu, then the others.
type relay struct {
	env *env
	id  string
	// phase spreads the polls of all relays over the interval.
	phase uint64
	gone  *list.Element // its place in registry.gone, guarded by registry.mu

	mu sync.Mutex // guards what follows
	// conn is the connection, nil when there is none. It is written under registry.mu too, so that
	// either lock is enough to read it.
	conn                *conn
	connectedAt, goneAt time.Time
	forgotten           bool // the relay has left the registry: nothing of it is stored
	counts              RelayCounts
	collectors          collectors
	units               units

	lastTime   int64 // of the newest event since the start, in ns
	storedTime int64 // of the newest event that the registry knew at the start; there may have been others

	// spool is what is known of the relay's spool; nil if the relay has said nothing of one.
	spool *spool

	line    uint32 // number of the newest got line
	entered uint32 // number of the newest got line when the connection came
	polling polling

	// visit is the instant at which the relay is polled next (0: it is not in the schedule), place
	// where it is in the slot of that instant. Both belong to the schedule.
	visit int64
	place int
}

// polling is where a relay stands in being polled. All times are those of [env.tick].
type polling struct {
	// due is when the relay is polled next; never if it is not in the schedule.
	due int64
	// polledAt is when polls were last looked for.
	polledAt int64
	// asked is when the newest poll was sent while no answer has come (0: none is awaited),
	// silentSince when the first one was that had none, took how long the last answer took.
	asked, silentSince, took int64
	// gatherUntil is when the first poll of collectors that are being added is due.
	gatherUntil int64
	// confirmBy is when collectors are dropped that have not been added again since the relay came
	// back (0: none).
	confirmBy int64
}

func newRelay(e *env, id string) *relay {
	h := fnv.New64a()
	h.Write([]byte(id))
	// FNV alone leaves ids that differ in a digit too close together; this is the finalizer of
	// MurmurHash3.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return &relay{env: e, id: id, phase: x ^ x>>33, units: units{text: noUnits}, polling: polling{due: never}}
}

// note journals a relay event of this moment. It needs mu, so that the events of a relay are in the
// order in which things happened.
func (r *relay) note(e codec.RelayEvent) {
	e.Relay, e.Time = r.id, r.env.Now().UnixNano()
	r.env.events.put(e, nil)
}

// drop drops a collector. It needs mu.
func (r *relay) drop(c *collector, reason string) {
	r.collectors.drop(c)
	r.env.changes.add(r)
	r.note(codec.RelayEvent{Kind: codec.RelayRemoved, Collector: c.name.Value(), Reason: reason})
}

// hasAny reports whether the relay has one of the collectors.
func (r *relay) hasAny(collectors map[string]time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.collectors.list, func(c *collector) bool { return collectors[c.name.Value()] != 0 })
}

// intervals returns how often the collectors are polled now.
func (r *relay) intervals(tick int64) intervals {
	return intervals{normal: r.env.PollInterval, overrides: r.env.overrides.of(r.id, tick)}
}

// seen returns the time of the newest event that is known, in ns; 0 if there is none. It needs mu.
func (r *relay) seen() int64 {
	if r.lastTime != 0 {
		return r.lastTime
	}
	return r.storedTime
}

// lastSeen returns the time of the newest event that is known, in ns; 0 if there is none.
func (r *relay) lastSeen() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen()
}

// journalForgotten journals that the relay is forgotten: dated after every reading of the relay
// before it. The error is what keeps a connected relay from being forgotten. done is told how the
// append ended, unless it is nil.
func (r *relay) journalForgotten(reason string, done chan<- error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		return errConnected(r.conn)
	}
	r.env.events.put(codec.RelayEvent{Relay: r.id, Time: max(r.env.Now().UnixNano(), r.seen()),
		Kind: codec.RelayForgotten, Reason: reason}, done)
	return nil
}

// errConnected is why a relay that is connected cannot be forgotten.
func errConnected(c *conn) error {
	return fmt.Errorf("the relay is %w from %s: stop it first, or it would be back at once", ErrConnected, c.remote())
}

// forget marks the relay as one that has left the registry.
func (r *relay) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = true
}

// record returns what the state file keeps of the relay. It reports false when that is nothing: the
// relay is forgotten, or it has neither a collector nor a reading. A relay that took its collectors
// back and left is kept if it has ever answered: it is as silent as any other, until it is
// forgotten.
func (r *relay) record() (storedRelay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := storedRelay{V: 1, Last: r.seen(), Units: r.units.text.Value(), Collectors: make([]storedCollector, len(r.collectors.list))}
	for i, c := range r.collectors.list {
		s.Collectors[i] = storedCollector{Name: c.name.Value(), Tags: *c.tags}
	}
	if r.conn == nil {
		s.Gone = r.goneAt.UnixNano()
	}
	return s, !r.forgotten && (len(s.Collectors) > 0 || s.Last != 0)
}

// describe returns what others may know of the relay.
func (r *relay) describe(tick int64) Relay {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := Relay{ID: r.id, RelayCounts: r.counts, Collectors: make([]Collector, 0, len(r.collectors.list))}
	if seen := r.seen(); seen != 0 {
		d.LastSeen = time.Unix(0, seen)
	}
	if r.conn != nil {
		d.Connected, d.ConnectedAt, d.RemoteAddr = true, r.connectedAt, r.conn.remote()
	}
	if r.spool != nil {
		d.Spool = &RelaySpool{Waiting: r.spool.said.Waiting, Dropped: r.spool.said.Dropped}
	}
	intervals := r.intervals(tick)
	for _, c := range r.collectors.list {
		d.Collectors = append(d.Collectors,
			Collector{Name: c.name.Value(), Tags: append([]string{}, *c.tags...),
				Interval: apijson.Seconds(intervals.of(c.name.Value()))})
	}
	return d
}
