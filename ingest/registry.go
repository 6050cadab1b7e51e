package ingest

import (
	"container/list"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// registry is every relay that is connected or remembered.
type registry struct {
	env *env

	mu        sync.Mutex // guards what follows
	relays    map[string]*relay
	connected int
	gone      list.List // of *relay: those not connected, the longest gone first
}

// newRegistry returns a registry that remembers the relays, in the order in which they went.
func newRegistry(e *env, relays []*relay) *registry {
	g := &registry{env: e, relays: make(map[string]*relay)}
	for _, r := range relays {
		g.relays[r.id] = r
		r.gone = g.gone.PushBack(r)
	}
	g.count()
	return g
}

// enter makes c the connection of the relay with that id: it takes the place of an older
// connection. It returns nil when there are too many relays.
func (g *registry) enter(c *conn, id string) *relay {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.relays[id]
	if r == nil || r.conn == nil {
		if g.connected >= g.env.Limits.Relays {
			return nil
		}
		g.connected++
	}
	if r == nil {
		r = newRelay(g.env, id)
		g.relays[id] = r
	}
	if r.gone != nil {
		g.gone.Remove(r.gone)
		r.gone = nil
	}
	r.connect(c)
	g.count()
	return r
}

// leave takes c, which has ended, off its relay. When a newer connection has taken its place
// nothing happens.
func (g *registry) leave(c *conn, r *relay) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !r.disconnect(c) {
		return
	}
	g.connected--
	if _, keep := r.record(); keep {
		r.gone = g.gone.PushBack(r)
	} else {
		delete(g.relays, r.id)
	}
	g.env.changes.add(r)
	g.forgetSome()
}

// expire forgets the relays that have been gone for too long.
func (g *registry) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forgetSome()
}

// forgetSome forgets those that have been gone for too long, or are too many. It needs mu.
func (g *registry) forgetSome() {
	now, limits := g.env.Now(), &g.env.Limits
	for e := g.gone.Front(); e != nil; e = g.gone.Front() {
		r := e.Value.(*relay)
		var reason string
		switch {
		case g.gone.Len() > limits.Known:
			reason = "more than " + strconv.Itoa(limits.Known) + " relays are not connected"
		case now.Sub(r.goneAt) > limits.KnownFor: // goneAt changes only under mu as well
			reason = "not connected for " + limits.KnownFor.String()
		default:
			g.count()
			return
		}
		r.journalForgotten(reason, nil)
		g.remove(r)
	}
	g.count()
}

// forget takes a relay out of the registry, unless the relay has connected meanwhile.
func (g *registry) forget(r *relay) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.conn != nil {
		return errConnected(r.conn)
	}
	if g.relays[r.id] == r { // else it was forgotten meanwhile
		g.remove(r)
		g.count()
	}
	return nil
}

// remove needs mu. The relay is not connected.
func (g *registry) remove(r *relay) {
	g.gone.Remove(r.gone)
	r.gone = nil
	delete(g.relays, r.id)
	r.forget()
	g.env.changes.add(r)
	g.env.m.forgotten.Inc()
}

// count needs mu.
func (g *registry) count() {
	g.env.m.connected.Set(float64(g.connected))
	g.env.m.known.Set(float64(len(g.relays)))
}

// get returns the relay with that id, nil if there is none.
func (g *registry) get(id string) *relay {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.relays[id]
}

// all returns every relay, in the order of their ids.
func (g *registry) all() []*relay {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.relays), byID)
}

// connectedOnes returns the connected relays among ids, or all of them if ids is empty, in the
// order of their ids.
func (g *registry) connectedOnes(ids []string) []*relay {
	g.mu.Lock()
	defer g.mu.Unlock()
	var relays []*relay
	for id, r := range g.relays {
		if r.conn != nil && (len(ids) == 0 || slices.Contains(ids, id)) {
			relays = append(relays, r)
		}
	}
	slices.SortFunc(relays, byID)
	return relays
}

// alive returns which relays are connected, with the times of their newest events.
func (g *registry) alive() storedAlive {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := storedAlive{V: 1, At: g.env.Now().UnixNano(), Seen: make(map[string]int64, g.connected)}
	for id, r := range g.relays {
		if r.conn != nil {
			a.Seen[id] = r.lastSeen()
		}
	}
	return a
}
