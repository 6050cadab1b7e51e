package ingest

import (
	"iter"
	"net"
	"slices"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

// gatherDelay is how long the first poll of a new collector waits for the adds that follow.
const gatherDelay = 200 * time.Millisecond

// connect makes c the relay's connection, greets it, and has it asked at once for what the relay
// had before. A connection that the relay has already is closed.
func (r *relay) connect(c *conn) {
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
	// The greeting is queued under the lock, so that no get comes before the ok that a relay waits
	// for. The session writes it, when the registry is free for others again.
	greeting := relaywire.AppendBeat(relaywire.AppendOK(nil), r.env.BeatInterval)
	greeting = relaywire.AppendTakes(greeting, relaywire.TakesPast)
	c.enqueue(appendLines(greeting, r.intervals(tick).overrides, tick))
	r.polling = polling{polledAt: tick, due: never}
	r.spoolGone()
	r.entered = r.line
	for _, known := range r.collectors.list {
		known.soon, known.unconfirmed = tick, true
		r.polling.confirmBy = tick + int64(r.env.PollInterval)
	}
	r.pollAt(tick)
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
	r.spoolGone()
	r.env.schedule.unset(r)
	return true
}

// add registers a collector for the connection c. It returns false when the relay has too many.
func (r *relay) add(c *conn, name []byte, tags iter.Seq[[]byte]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		return true // replaced meanwhile: what it says no longer counts
	}
	old := r.collectors.find(name)
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
	var list []string
	for tag := range tags {
		list = append(list, string(tag))
	}
	if len(r.collectors.list) == 0 {
		r.polling.polledAt = r.env.tick()
	}
	added := r.collectors.add(string(name), slices.Clip(list))
	if old == nil || old.soon != 0 || old.line <= r.entered { // else only its tags have changed
		r.pollSoon(added)
	}
	r.env.changes.add(r)
	r.note(codec.RelayEvent{Kind: codec.RelayAdded, Collector: added.name.Value(), Tags: *added.tags})
	return true
}

// pollSoon has a collector that was added polled for the first time, with those that are added
// after it. It needs mu.
func (r *relay) pollSoon(c *collector) {
	if tick := r.env.tick(); r.polling.gatherUntil <= tick {
		r.polling.gatherUntil = tick + int64(gatherDelay)
	}
	c.soon = r.polling.gatherUntil
	r.pollAt(c.soon)
}

// remove takes a collector back for the connection c. One that is not there is no error.
func (r *relay) remove(c *conn, name []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.collectors.find(name); r.conn == c && old != nil {
		r.drop(old, "")
	}
}

// send queues lines for the relay, after which its polls may be due at other times. It reports
// false when the relay is not connected.
func (r *relay) send(lines []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || !r.conn.send(lines) {
		return false
	}
	r.pollAt(r.env.tick())
	return true
}

// drain ends the relay's session as soon as no poll is unanswered, and at until at the latest. The
// relay is polled no more.
func (r *relay) drain(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		r.conn.drain(until, r.polling.asked != 0)
	}
}
