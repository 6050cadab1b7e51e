package ingest

import (
	"container/list"
	"hash/fnv"
	"iter"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// Relay is what the registry knows of one relay.
type Relay struct {
	ID string
	// Connected says whether it is connected now, RemoteAddr and ConnectedAt from where and since when; both are empty otherwise.
	Connected   bool
	RemoteAddr  string
	ConnectedAt time.Time
	// LastSeen is the time of its last event, zero if there was none yet. It outlives a restart.
	LastSeen time.Time
	// Collectors are in the order in which they were added.
	Collectors []Collector
	// Polls were sent, of which Unanswered had no answer before the next one was sent; Skipped were not sent because the answer to the
	// one before might be under way; Rejected readings were not taken. Since the server's start.
	Polls, Unanswered, Skipped, Rejected uint64
	// Replaced connections had to make way for a newer one with the same id, since the server's start; the last of them came from
	// ReplacedAddr. Two hosts with one id do that to each other for ever.
	Replaced     uint64
	ReplacedAddr string
}

// Collector is one collector of a [Relay]. Interval is how often it is polled now, overrides included.
type Collector struct {
	Name     string
	Tags     []string
	Interval time.Duration
}

// relay is one entry of the registry. Lock order: registry.mu, relay.mu, then session.mu, overrides.mu, poller.mu, store.mu or queue.mu.
type relay struct {
	id string
	// phase spreads the polls of all relays over the interval.
	phase uint64

	polls, unanswered, skipped, rejected atomic.Uint64

	mu sync.Mutex // guards what follows
	// sess is the connection, nil when there is none. It is written under registry.mu too, so that either lock is enough to read it.
	sess        *session
	connectedAt time.Time
	goneAt      time.Time
	gone        *list.Element // its place in registry.gone, guarded by registry.mu
	lastTime    int64         // of the newest event since the start, in ns
	storedTime  int64         // of the newest event that the registry knew at the start; there may have been others
	collectors  []*collector  // as added
	byName      map[string]*collector
	series      int    // stats of all collectors
	line        uint32 // number of the newest got line
	entered     uint32 // of the newest one when the connection came

	// replaced counts the connections whose place a newer one took; replacedAddr is where the last of them came from.
	replaced     uint64
	replacedAddr string

	// overrides hold for this relay, the newest first.
	overrides []*override
	// polledAt is when polls were last looked for, asked when the newest poll was sent while no answer has come (0: none is awaited),
	// silentSince when the first one was that had none. took is how long the last answer took. All in poller time.
	polledAt, asked, silentSince, took int64
	// gatherUntil is when the first poll of collectors that are being added is due; confirmBy when collectors are dropped
	// that have not been added again since the relay came back (0: none).
	gatherUntil, confirmBy int64

	due int64 // guarded by poller.mu, as is pos
	pos int
}

// collector is one collector of a relay, guarded by its relay's mu. name and tags never change.
type collector struct {
	name  string
	tags  []string
	stats statTable
	// fresh is set until the first poll or reading. The poll is due at freshDue, out of the regular interval's phase; unconfirmed while a relay that came back has not added it again.
	fresh, unconfirmed bool
	freshDue           int64
	// firstAt is when the first poll was sent, until a regular one is due (0: none).
	firstAt int64
	// slot is its place in the event that is being assembled from the got line with the number line, which is its newest (0: none).
	line uint32
	slot int
}

func newRelay(id string) *relay {
	h := fnv.New64a()
	h.Write([]byte(id))
	// FNV alone leaves ids that differ in a digit too close together; this is the finalizer of MurmurHash3.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return &relay{id: id, phase: x ^ x>>33, byName: make(map[string]*collector), pos: -1}
}

// awaiting says whether a poll is unanswered.
func (r *relay) awaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked != 0
}

// insert adds a collector, or replaces the one of that name. It needs mu.
func (r *relay) insert(c *collector) {
	if old := r.byName[c.name]; old != nil {
		r.series -= len(old.stats.entries)
		r.collectors[slices.Index(r.collectors, old)] = c
	} else {
		r.collectors = append(r.collectors, c)
	}
	r.byName[c.name] = c
}

// drop removes a collector. It needs mu.
func (r *relay) drop(c *collector) {
	r.series -= len(c.stats.entries)
	delete(r.byName, c.name)
	i := slices.Index(r.collectors, c)
	r.collectors = slices.Delete(r.collectors, i, i+1)
}

// registry is every relay that is connected or remembered.
type registry struct {
	limits Limits
	m      *metrics
	store  *store
	events *relayEvents

	mu        sync.Mutex // guards what follows
	relays    map[string]*relay
	connected int
	gone      list.List // of *relay: those not connected, the longest gone first
}

func newRegistry(limits Limits, m *metrics, st *store, events *relayEvents) *registry {
	return &registry{limits: limits, m: m, store: st, events: events, relays: make(map[string]*relay)}
}

// attach makes s the connection of the relay with that id. It returns the connection that it replaces, if any, and nil without a relay
// when there are too many. prepare is called under the locks: what it tells others about is told in the order in which it happens.
func (g *registry) attach(s *session, id string, now time.Time, prepare func(r *relay, old *session)) (r *relay, old *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r = g.relays[id]
	if r == nil || r.sess == nil {
		if g.connected >= g.limits.Relays {
			return nil, nil
		}
		g.connected++
	}
	if r == nil {
		r = newRelay(id)
		g.relays[id] = r
	}
	if r.gone != nil {
		g.gone.Remove(r.gone)
		r.gone = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old = r.sess
	r.sess = s
	r.connectedAt, r.goneAt = now, time.Time{}
	g.count()
	prepare(r, old)
	return r, old
}

// detach takes s off its relay and calls gone under the locks. When a newer connection has taken its place nothing happens.
func (g *registry) detach(s *session, r *relay, now time.Time, gone func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.mu.Lock()
	if r.sess != s {
		r.mu.Unlock()
		return
	}
	gone()
	r.sess = nil
	r.goneAt = now
	memorable := r.memorable()
	r.mu.Unlock()
	g.connected--
	if !memorable {
		delete(g.relays, r.id)
	} else {
		r.gone = g.gone.PushBack(r)
	}
	g.store.changed(r.id)
	g.forget(now)
}

// remember puts a relay that was stored into the registry, as not connected. It is for New, in the order of their going.
func (g *registry) remember(r *relay) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.relays[r.id] = r
	r.gone = g.gone.PushBack(r)
	g.count()
}

// expire forgets the relays that have been gone for too long.
func (g *registry) expire(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
}

// forget needs mu.
func (g *registry) forget(now time.Time) {
	for e := g.gone.Front(); e != nil; e = g.gone.Front() {
		r := e.Value.(*relay)
		// goneAt changes only under mu as well.
		if g.gone.Len() <= g.limits.Known && now.Sub(r.goneAt) <= g.limits.KnownFor {
			break
		}
		reason := "not connected for " + g.limits.KnownFor.String()
		if g.gone.Len() > g.limits.Known {
			reason = "more than " + strconv.Itoa(g.limits.Known) + " relays are not connected"
		}
		r.mu.Lock()
		g.events.put(r.forgotten(now, reason))
		r.mu.Unlock()
		g.remove(r)
	}
	g.count()
}

// count needs mu.
func (g *registry) count() {
	g.m.connected.Set(float64(g.connected))
	g.m.known.Set(float64(len(g.relays)))
}

func (g *registry) get(id string) *relay {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.relays[id]
}

// all returns every relay, in the order of their ids.
func (g *registry) all() []*relay {
	g.mu.Lock()
	list := make([]*relay, 0, len(g.relays))
	for _, r := range g.relays {
		list = append(list, r)
	}
	g.mu.Unlock()
	slices.SortFunc(list, func(a, b *relay) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return list
}

// Relays returns every relay that is connected or remembered, in the order of their ids.
func (srv *Server) Relays() []Relay {
	relays := srv.registry.all()
	out := make([]Relay, 0, len(relays))
	now := srv.poller.clock()
	for _, r := range relays {
		out = append(out, r.describe(now, srv.opt.PollInterval))
	}
	return out
}

// seen is the time of the newest event that is known, in ns; 0 if there is none. It needs mu.
func (r *relay) seen() int64 {
	if r.lastTime != 0 {
		return r.lastTime
	}
	return r.storedTime
}

func (r *relay) describe(now int64, interval time.Duration) Relay {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := Relay{ID: r.id, Polls: r.polls.Load(), Unanswered: r.unanswered.Load(), Skipped: r.skipped.Load(), Rejected: r.rejected.Load(), Replaced: r.replaced, ReplacedAddr: r.replacedAddr}
	if seen := r.seen(); seen != 0 {
		d.LastSeen = time.Unix(0, seen)
	}
	if r.sess != nil {
		d.Connected, d.ConnectedAt, d.RemoteAddr = true, r.connectedAt, r.sess.raw.RemoteAddr().String()
	}
	d.Collectors = make([]Collector, 0, len(r.collectors))
	for _, c := range r.collectors {
		d.Collectors = append(d.Collectors, Collector{Name: c.name, Tags: slices.Clone(c.tags), Interval: r.interval(c.name, now, interval)})
	}
	return d
}

// enter makes an identified connection a relay: it takes the place of an older connection, is greeted, and is asked at once for
// what the relay had before. It returns false when there are too many relays.
func (srv *Server) enter(s *session, id string) bool {
	now := srv.opt.Now()
	tick := srv.poller.clock()
	var times uint64
	r, old := srv.registry.attach(s, id, now, func(r *relay, old *session) {
		if old != nil {
			srv.events.put(codec.RelayEvent{Relay: r.id, Time: now.UnixNano(), Kind: codec.RelayDisconnected, Reason: endReplaced})
			r.replaced, r.replacedAddr = r.replaced+1, old.raw.RemoteAddr().String()
			times = r.replaced
		}
		srv.events.put(codec.RelayEvent{Relay: r.id, Time: now.UnixNano(), Kind: codec.RelayConnected, Addr: s.raw.RemoteAddr().String()})
		s.mu.Lock()
		s.relay = r
		s.mu.Unlock()
		greeting := srv.greeting
		r.overrides = srv.overrides.of(r.id, tick)
		for i := len(r.overrides) - 1; i >= 0; i-- { // the newest last: it is the one that counts
			greeting = r.overrides[i].appendLine(slices.Clip(greeting), tick)
		}
		// Under the relay's lock, so that no get comes before the ok that a relay waits for.
		s.send(greeting)
		r.asked, r.took, r.polledAt, r.gatherUntil, r.confirmBy = 0, 0, tick, 0, 0
		r.entered = r.line
		for _, c := range r.collectors {
			c.fresh, c.freshDue, c.unconfirmed = true, tick, true
			r.confirmBy = tick + int64(srv.opt.PollInterval)
		}
		srv.poller.schedule(r, tick)
	})
	if r == nil {
		return s.refuse(refusedRelays, "too many relays: the limit is "+strconv.Itoa(srv.opt.Limits.Relays))
	}
	srv.identified(s)
	if old != nil {
		srv.m.replaced.Inc()
		srv.sayReplaced(id, s.raw.RemoteAddr().String(), old.raw.RemoteAddr().String(), times)
		srv.m.ended.WithLabelValues(endReplaced).Inc()
		old.end(endReplaced, "replaced: another connection came with the same id")
	}
	srv.log.Debug("relay connected", "relay", r.id, "remote", s.raw.RemoteAddr().String())
	return true
}

// leave takes an ended session off its relay.
func (srv *Server) leave(s *session) {
	now := srv.opt.Now()
	s.end(endStopped, "") // only when arm saw Stop's time run out
	s.mu.Lock()
	reason := s.ending
	s.mu.Unlock()
	srv.registry.detach(s, s.relay, now, func() {
		srv.m.ended.WithLabelValues(reason).Inc()
		srv.events.put(codec.RelayEvent{Relay: s.relay.id, Time: now.UnixNano(), Kind: codec.RelayDisconnected, Reason: reason})
	})
	switch reason {
	case endSilent, endStuck, endLine:
		srv.quiet.warn("ended "+reason, "relay was disconnected", "reason", reason, "relay", s.relay.id)
	default:
		srv.log.Debug("relay disconnected", "relay", s.relay.id, "reason", reason)
	}
}

// add registers a collector. It returns false when the relay has too many.
func (srv *Server) add(s *session, name []byte, tags iter.Seq[[]byte]) bool {
	r := s.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sess != s {
		return true // replaced meanwhile: what it says no longer counts
	}
	old := r.byName[string(name)]
	tick := srv.poller.clock()
	if old != nil && sameTags(old.tags, tags) {
		if old.unconfirmed && old.line <= r.entered {
			// The poll that came with the welcome was too early for it.
			srv.pollSoon(r, old, tick)
		}
		old.unconfirmed = false
		return true
	}
	if old == nil && len(r.collectors) >= srv.opt.Limits.Collectors {
		return false
	}
	c := &collector{name: string(name)}
	for tag := range tags {
		c.tags = append(c.tags, string(tag))
	}
	c.tags = slices.Clip(c.tags)
	if len(r.collectors) == 0 {
		r.polledAt = tick
	}
	r.insert(c)
	if old == nil || old.fresh || old.line <= r.entered { // else only its tags have changed
		srv.pollSoon(r, c, tick)
	}
	srv.poller.schedule(r, r.next(tick, srv.opt.PollInterval))
	srv.store.changed(r.id)
	srv.events.put(codec.RelayEvent{Relay: r.id, Time: srv.opt.Now().UnixNano(), Kind: codec.RelayAdded, Collector: c.name, Tags: c.tags})
	return true
}

// pollSoon has a collector that was added polled for the first time, with those that are added after it. It needs r.mu.
func (srv *Server) pollSoon(r *relay, c *collector, tick int64) {
	if r.gatherUntil <= tick {
		r.gatherUntil = tick + int64(gatherDelay)
	}
	c.fresh, c.freshDue = true, r.gatherUntil
	srv.poller.schedule(r, c.freshDue)
}

// remove takes a collector back. One that is not there is no error.
func (srv *Server) remove(s *session, name []byte) {
	r := s.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.byName[string(name)]
	if r.sess != s || c == nil {
		return
	}
	r.drop(c)
	srv.store.changed(r.id)
	srv.events.put(codec.RelayEvent{Relay: r.id, Time: srv.opt.Now().UnixNano(), Kind: codec.RelayRemoved, Collector: c.name})
}

func sameTags(have []string, tags iter.Seq[[]byte]) bool {
	i := 0
	for tag := range tags {
		if i == len(have) || have[i] != string(tag) {
			return false
		}
		i++
	}
	return i == len(have)
}
