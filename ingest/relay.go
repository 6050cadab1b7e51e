package ingest

import (
	"container/list"
	"fmt"
	"hash/fnv"
	"iter"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

// gatherDelay is how long the first poll of a new collector waits for the adds that follow.
const gatherDelay = 200 * time.Millisecond

// Relay is what the registry knows of one relay.
type Relay struct {
	ID string `json:"id"`
	// Connected reports whether it is connected now, RemoteAddr and ConnectedAt from where and since
	// when; both are empty otherwise.
	Connected   bool      `json:"connected"`
	RemoteAddr  string    `json:"address,omitempty"`
	ConnectedAt time.Time `json:"connected_at,omitzero"`
	// LastSeen is the time of its last event, zero if there was none yet. It outlives a restart.
	LastSeen time.Time `json:"last_seen,omitzero"`
	// Collectors are in the order in which they were added; never nil.
	Collectors []Collector `json:"collectors"`
	// RelayCounts are counted since the server's start.
	RelayCounts
}

// RelayCounts count what became of one relay's polls, readings and connections.
type RelayCounts struct {
	// Polls were sent, of which Unanswered had no answer before the next one was sent. Skipped were not
	// sent because the answer to the one before might be under way.
	Polls      uint64 `json:"polls"`
	Unanswered uint64 `json:"unanswered"`
	Skipped    uint64 `json:"skipped"`
	// Rejected readings were not taken.
	Rejected uint64 `json:"rejected"`
	// Replaced connections had to make way for a newer one with the same id; the last of them came from
	// ReplacedAddr. Two hosts with one id do that to each other for ever.
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

// relay is everything that is known of one relay, connected or not. What it has to say to others goes
// into queues: lines to its connection, relay events to the journal, changes of its record to the
// state file, its next poll to the schedule. So its methods never wait.
//
// Lock order: overrideStore.change, registry.mu, relay.mu, then the others.
type relay struct {
	env *env
	id  string
	// phase spreads the polls of all relays over the interval.
	phase uint64
	alarm alarm         // guarded by schedule.mu
	gone  *list.Element // its place in registry.gone, guarded by registry.mu

	mu sync.Mutex // guards what follows
	// conn is the connection, nil when there is none. It is written under registry.mu too, so that either
	// lock is enough to read it.
	conn                *conn
	connectedAt, goneAt time.Time
	forgotten           bool // the relay has left the registry: nothing of it is stored
	counts              RelayCounts
	collectors          collectors
	overrides           []*override // those that hold for it, the newest first; some may have ended

	lastTime   int64 // of the newest event since the start, in ns
	storedTime int64 // of the newest event that the registry knew at the start; there may have been others

	line    uint32 // number of the newest got line
	entered uint32 // number of the newest got line when the connection came
	polling polling
}

// polling is where a relay stands in being polled. All times are those of [env.tick].
type polling struct {
	// polledAt is when polls were last looked for.
	polledAt int64
	// asked is when the newest poll was sent while no answer has come (0: none is awaited), silentSince
	// when the first one was that had none, took how long the last answer took.
	asked, silentSince, took int64
	// gatherUntil is when the first poll of collectors that are being added is due.
	gatherUntil int64
	// confirmBy is when collectors are dropped that have not been added again since the relay came back
	// (0: none).
	confirmBy int64
}

func newRelay(e *env, id string) *relay {
	h := fnv.New64a()
	h.Write([]byte(id))
	// FNV alone leaves ids that differ in a digit too close together; this is the finalizer of MurmurHash3.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return &relay{env: e, id: id, phase: x ^ x>>33, alarm: alarm{pos: -1}}
}

// note journals a relay event of this moment. It needs mu, so that the events of a relay are in the
// order in which things happened.
func (r *relay) note(e codec.RelayEvent) {
	e.Relay, e.Time = r.id, r.env.Now().UnixNano()
	r.env.events.put(e, nil)
}

// connect makes c the relay's connection, greets it, and has it asked at once for what the relay had
// before. A connection that the relay has already is closed. overrides are those that hold for the
// relay.
func (r *relay) connect(c *conn, overrides []*override) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.conn
	if old != nil {
		r.note(codec.RelayEvent{Kind: codec.RelayDisconnected, Reason: endReplaced})
		r.counts.Replaced++
		r.counts.ReplacedAddr = old.remote()
	}
	r.note(codec.RelayEvent{Kind: codec.RelayConnected, Addr: c.remote()})
	tick := r.env.tick()
	r.conn, r.connectedAt, r.goneAt = c, r.env.Now(), time.Time{}
	r.overrides = overrides
	// The greeting is sent under the lock, so that no get comes before the ok that a relay waits for.
	c.send(appendLines(relaywire.AppendBeat(relaywire.AppendOK(nil), r.env.BeatInterval), overrides, tick))
	r.polling = polling{polledAt: tick}
	r.entered = r.line
	for _, known := range r.collectors.list {
		known.soon, known.unconfirmed = tick, true
		r.polling.confirmBy = tick + int64(r.env.PollInterval)
	}
	r.env.schedule.add(r, tick)
	if old != nil {
		r.replaced(old)
	}
}

// replaced ends the connection whose place a newer one has taken. It needs mu.
func (r *relay) replaced(old *conn) {
	newer, older := r.conn.remote(), old.remote()
	key, text := "replaced", "a relay came back before its old connection had ended, or two relays of one host "+
		"use the same id: the older connection is closed"
	if hostOf(newer) != hostOf(older) {
		key, text = "replaced by another host", "two hosts use the same id, or one has another address now: "+
			"the older connection is closed; give each relay an id of its own"
	}
	r.env.log.WarnRarely(key, text, "relay", r.id, "newer", newer, "older", older, "times", r.counts.Replaced)
	r.env.m.replaced.Inc()
	r.env.m.ended.WithLabelValues(endReplaced).Inc()
	old.end(endReplaced, "replaced: another connection came with the same id")
}

// hostOf returns the address without its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// disconnect takes c, which has ended, off the relay. It reports false when c is not the relay's
// connection any more.
func (r *relay) disconnect(c *conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		return false
	}
	reason := c.reason()
	r.env.m.ended.WithLabelValues(reason).Inc()
	r.note(codec.RelayEvent{Kind: codec.RelayDisconnected, Reason: reason})
	r.conn, r.goneAt = nil, r.env.Now()
	return true
}

// add registers a collector for the connection c. It returns false when the relay has too many.
func (r *relay) add(c *conn, name []byte, tags iter.Seq[[]byte]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		return true // replaced meanwhile: what it says no longer counts
	}
	old := r.collectors.byName[string(name)]
	if old != nil && old.hasTags(tags) {
		if old.unconfirmed && old.line <= r.entered {
			r.pollSoon(old) // the poll that came with the welcome was too early for it
		}
		old.unconfirmed = false
		return true
	}
	if old == nil && len(r.collectors.list) >= r.env.Limits.Collectors {
		return false
	}
	added := &collector{name: string(name)}
	for tag := range tags {
		added.tags = append(added.tags, string(tag))
	}
	added.tags = slices.Clip(added.tags)
	if len(r.collectors.list) == 0 {
		r.polling.polledAt = r.env.tick()
	}
	r.collectors.put(added)
	if old == nil || old.soon != 0 || old.line <= r.entered { // else only its tags have changed
		r.pollSoon(added)
	}
	r.env.changes.add(r)
	r.note(codec.RelayEvent{Kind: codec.RelayAdded, Collector: added.name, Tags: added.tags})
	return true
}

// pollSoon has a collector that was added polled for the first time, with those that are added after
// it. It needs mu.
func (r *relay) pollSoon(c *collector) {
	if tick := r.env.tick(); r.polling.gatherUntil <= tick {
		r.polling.gatherUntil = tick + int64(gatherDelay)
	}
	c.soon = r.polling.gatherUntil
	r.env.schedule.add(r, c.soon)
}

// remove takes a collector back for the connection c. One that is not there is no error.
func (r *relay) remove(c *conn, name []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.collectors.byName[string(name)]; r.conn == c && old != nil {
		r.drop(old, "")
	}
}

// drop drops a collector. It needs mu.
func (r *relay) drop(c *collector, reason string) {
	r.collectors.drop(c)
	r.env.changes.add(r)
	r.note(codec.RelayEvent{Kind: codec.RelayRemoved, Collector: c.name, Reason: reason})
}

// hasAny reports whether the relay has one of the collectors.
func (r *relay) hasAny(collectors map[string]time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.collectors.list, func(c *collector) bool { return collectors[c.name] != 0 })
}

// interval returns how often the collector is polled. It needs mu.
func (r *relay) interval(collector string, tick int64) time.Duration {
	for _, o := range r.overrides {
		if interval, ok := o.Collectors[collector]; ok && o.ends > tick {
			return interval
		}
	}
	return r.env.PollInterval
}

// override makes an override hold, unless the relay has reconnected in this moment and has it
// already.
func (r *relay) override(o *override, tick int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if indexOverride(r.overrides, o.ID) >= 0 {
		return
	}
	r.overrides = slices.Insert(r.overrides, 0, o)
	if r.conn != nil {
		r.conn.send(o.appendLine(nil, tick))
		r.env.schedule.add(r, tick)
	}
	for _, item := range o.items {
		r.note(codec.RelayEvent{Kind: codec.RelayOverride, Collector: item.Name,
			Duration: o.Until.Sub(o.Created), Interval: item.Interval, Reason: "override " + o.ID})
	}
}

// withdraw ends an override. On the wire that is an override for a second with the interval that
// holds otherwise, which replaces the other one and ends at once: older relays know no other way.
func (r *relay) withdraw(o *override, tick int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := indexOverride(r.overrides, o.ID)
	if i < 0 {
		return
	}
	r.overrides = holding(slices.Delete(r.overrides, i, i+1), tick)
	if r.conn != nil {
		items := slices.Clone(o.items)
		for i := range items {
			items[i].Interval = r.env.PollInterval
		}
		r.conn.send(appendLines(relaywire.AppendOverride(nil, time.Second, items), r.overrides, tick))
		r.env.schedule.add(r, tick)
	}
}

// send queues lines for the relay. It reports false when the relay is not connected.
func (r *relay) send(lines []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn != nil && r.conn.send(lines)
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
// back and left is kept if it has ever answered: it is as silent as any other, until it is forgotten.
func (r *relay) record() (storedRelay, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := storedRelay{V: 1, Last: r.seen(), Collectors: make([]storedCollector, len(r.collectors.list))}
	for i, c := range r.collectors.list {
		s.Collectors[i] = storedCollector{Name: c.name, Tags: c.tags}
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
	for _, c := range r.collectors.list {
		d.Collectors = append(d.Collectors,
			Collector{Name: c.name, Tags: append([]string{}, c.tags...), Interval: apijson.Seconds(r.interval(c.name, tick))})
	}
	return d
}
