package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxStep is how far the clock may go back before a relay's events follow it. Smaller steps are
	// smoothed over: times stand still (a nanosecond an event) until the clock has caught up.
	maxStep = time.Minute
	// keepReadings is how many readings an assembly may have room for and still be used again.
	keepReadings = 4096
)

// assembly is what one got line becomes.
type assembly struct {
	event    codec.Event
	good     int
	bad      int
	rejected map[string]int // by reason
}

// assemblies are assemblies that wait to be used again: a session needs one only until the journal
// has its event.
type assemblies struct{ pool sync.Pool }

// get returns an assembly for a line of the relay.
func (p *assemblies) get(relay string) *assembly {
	a, ok := p.pool.Get().(*assembly)
	if !ok {
		a = &assembly{rejected: make(map[string]int)}
	}
	a.event.Relay, a.event.Collectors = relay, a.event.Collectors[:0]
	a.good, a.bad = 0, 0
	clear(a.rejected)
	return a
}

// put takes an assembly back, unless it has become too large.
func (p *assemblies) put(a *assembly) {
	room := 0
	for _, c := range a.event.Collectors[:cap(a.event.Collectors)] {
		room += cap(c.Stats) + 1
	}
	if room <= keepReadings {
		p.pool.Put(a)
	}
}

// collector returns the place of a new collector in the event, with the room for stats that it has
// kept.
func (a *assembly) collector(c *collector) uint32 {
	i := len(a.event.Collectors)
	if i < cap(a.event.Collectors) {
		a.event.Collectors = a.event.Collectors[:i+1]
	} else {
		a.event.Collectors = append(a.event.Collectors, codec.Collector{})
	}
	e := &a.event.Collectors[i]
	e.Name, e.Tags, e.Stats = c.name.Value(), *c.tags, e.Stats[:0]
	return uint32(i)
}

func (a *assembly) reject(reason string) {
	a.rejected[reason]++
	a.bad++
}

// got brings the readings of a line that came over c to the journal, and waits until it has them.
// It reports whether a reading was refused because the relay has too many series.
func (r *relay) got(c *conn, args []byte) (tooManySeries bool) {
	tooManySeries, _ = r.take(c, args, origin{}) // an error is counted
	return tooManySeries
}

// origin is where the readings of a line come from, if from a spool.
type origin struct {
	record codec.Spool
	taken  int64 // when the record was taken, in ns; 0: just now
}

// errReplaced says that a line came over a connection that has been replaced: it does not count.
var errReplaced = errors.New("the connection has been replaced")

// take brings the readings of a line to the journal. An error means that the journal did not take
// them, or that it does not say so ([journal.ErrUnknown]).
func (r *relay) take(c *conn, args []byte, from origin) (tooManySeries bool, err error) {
	a := r.env.assemblies.get(r.id)
	defer r.env.assemblies.put(a)
	if !r.assemble(c, a, args, from) {
		return false, errReplaced
	}
	r.countRejected(a)
	if a.good > 0 {
		err = r.append(&a.event)
	}
	return a.rejected[rejectSeriesLimit] > 0, err
}

// assemble takes the readings of a line. It returns false when the connection has been replaced
// meanwhile: what it says no longer counts.
func (r *relay) assemble(over *conn, a *assembly, args []byte, from origin) bool {
	now := r.env.Now().UnixNano()
	past := from.taken != 0
	a.event.Spool, a.event.Past = from.record, past
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != over {
		return false
	}
	if !past {
		r.answered()
	}
	r.line++
	r.collectors.cursor = 0
	var c *collector
	for reading := range relaywire.Readings(args) {
		if reading.Err != nil {
			a.reject(rejectionOf(reading.Err))
			continue
		}
		if c == nil || c.name.Value() != string(reading.Collector) {
			if c = r.collectors.find(reading.Collector); c == nil {
				a.reject(rejectUnknownCollector)
				continue
			}
		}
		stat, line := c.stat(reading.Stat)
		if line == nil {
			if r.collectors.series >= r.env.Limits.Series {
				a.reject(rejectSeriesLimit)
				continue
			}
			r.collectors.series++
			stat, line = c.addStat(reading.Stat)
		}
		if *line == r.line {
			a.reject(rejectDuplicate)
			continue
		}
		if c.line != r.line {
			if c.line, c.slot = r.line, a.collector(c); !past {
				c.soon = 0 // it has a reading already
			}
		}
		*line = r.line
		e := &a.event.Collectors[c.slot]
		e.Stats = append(e.Stats, codec.Stat{ID: stat, Value: reading.Value})
		a.good++
	}
	r.counts.Rejected += uint64(a.bad)
	switch {
	case past:
		a.event.Time = from.taken
	case a.good > 0:
		a.event.Time = r.eventTime(now, a.good)
	}
	return true
}

// eventTime returns the time of the next event: now, or just after the last event. Readings of one
// series get successive nanoseconds from there on, so as many are taken as the event has readings.
// It needs mu.
func (r *relay) eventTime(now int64, readings int) int64 {
	switch back := time.Duration(r.lastTime - now); {
	case back < 0:
	case back <= maxStep:
		now = r.lastTime + 1
	default:
		r.env.m.clockBack.Inc()
		r.env.log.WarnRarely("clock", "the clock was set back; events follow it", "relay", r.id, "by", back.String())
	}
	r.lastTime = now + int64(readings-1)
	return now
}

func rejectionOf(err error) string {
	switch {
	case errors.Is(err, relaywire.ErrNoValue):
		return rejectNoValue
	case errors.Is(err, relaywire.ErrNotFinite):
		return rejectNotFinite
	case errors.Is(err, relaywire.ErrNotNumber):
		return rejectNotNumber
	}
	return rejectBadName
}

// rejectAll rejects all items of a line.
func (r *relay) rejectAll(items []byte, reason string) {
	a := r.env.assemblies.get(r.id)
	defer r.env.assemblies.put(a)
	for range relaywire.Readings(items) {
		a.reject(reason)
	}
	r.countRejected(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Rejected += uint64(a.bad)
}

func (r *relay) countRejected(a *assembly) {
	for reason, n := range a.rejected {
		r.env.m.rejected.WithLabelValues(reason).Add(float64(n))
		r.env.log.WarnRarely("rejected "+reason, "readings were not taken",
			"reason", reason, "relay", r.id, "readings", n)
	}
}

// append brings an event to the journal. One that is too large for the journal is split between
// collectors; the second part is a moment later, and it alone is the record of a spool.
func (r *relay) append(e *codec.Event) error {
	_, err := r.env.Journal.Append(r.env.appends, e)
	if n := len(e.Collectors); n > 1 && errors.Is(err, journal.ErrTooLarge) {
		first, second := *e, *e
		first.Collectors, second.Collectors = e.Collectors[:n/2], e.Collectors[n/2:]
		first.Spool = codec.Spool{}
		if err := r.append(&first); err != nil {
			return err
		}
		if second.Time += int64(first.Readings()); !e.Past {
			r.mu.Lock()
			second.Time = r.eventTime(e.Time, second.Readings())
			r.mu.Unlock()
		}
		return r.append(&second)
	}
	n := float64(e.Readings())
	if err == nil {
		r.env.m.readings.Add(n)
		if e.Past {
			r.env.m.past.Add(n)
		}
		return nil
	}
	switch spooled := e.Spool != (codec.Spool{}); {
	case spooled:
		r.env.log.WarnRarely("append", "readings wait in their relay's spool: the journal does not take them", "relay", r.id, "error", err)
	case errors.Is(err, context.Canceled):
		r.env.m.lost.Add(n)
	default:
		r.env.m.lost.Add(n)
		r.env.log.WarnRarely("append", "readings are lost: the journal does not take them", "error", err)
	}
	return err
}
