package ingest

import (
	"context"
	"errors"
	"strconv"
	"time"
	"unique"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxStep is how far the clock may go back before a relay's events follow it. Smaller steps are smoothed over: times stand
	// still (a nanosecond an event) until the clock has caught up.
	maxStep = time.Minute
	// keepReadings is how many readings an assembly may have room for and still be used again.
	keepReadings = 4096
	// linearStats is how many stats of a collector are looked up without a map.
	linearStats = 12
)

// statTable is the stats that a collector has answered: interned, and found without allocating. Relays answer in the same order
// every time, so that the next one is nearly always the one after the last.
type statTable struct {
	entries []statEntry
	index   map[string]int // only when there are more than linearStats
	cursor  int
}

// statEntry keeps the handle and not the string: all relays of a process share one copy of a name.
type statEntry struct {
	name unique.Handle[string]
	line uint32 // the got line in which it was last seen
}

// find returns the place of name in entries, -1 if it is new.
func (t *statTable) find(name []byte) int {
	if c := t.cursor; c < len(t.entries) && t.entries[c].name.Value() == string(name) {
		t.cursor = c + 1
		return c
	}
	if t.index != nil {
		if i, ok := t.index[string(name)]; ok {
			t.cursor = i + 1
			return i
		}
		return -1
	}
	for i := range t.entries {
		if t.entries[i].name.Value() == string(name) {
			t.cursor = i + 1
			return i
		}
	}
	return -1
}

func (t *statTable) add(name []byte) int {
	i := len(t.entries)
	t.entries = append(t.entries, statEntry{name: unique.Make(string(name))})
	switch {
	case t.index != nil:
		t.index[t.entries[i].name.Value()] = i
	case len(t.entries) > linearStats:
		t.index = make(map[string]int, 2*len(t.entries))
		for i, e := range t.entries {
			t.index[e.name.Value()] = i
		}
	}
	t.cursor = i + 1
	return i
}

// assembly is what one got line becomes. They are pooled: a session needs one only until the journal has its event.
type assembly struct {
	event    codec.Event
	good     int
	bad      int
	rejected [rejections]int
	took     time.Duration
}

func (a *assembly) reset(relay string) {
	a.event.Relay, a.event.Collectors = relay, a.event.Collectors[:0]
	a.good, a.bad, a.rejected = 0, 0, [rejections]int{}
}

// collector returns the place of a new collector in the event, with the room for stats that it has kept.
func (a *assembly) collector(c *collector) int {
	i := len(a.event.Collectors)
	if i < cap(a.event.Collectors) {
		a.event.Collectors = a.event.Collectors[:i+1]
	} else {
		a.event.Collectors = append(a.event.Collectors, codec.Collector{})
	}
	e := &a.event.Collectors[i]
	e.Name, e.Tags, e.Stats = c.name, c.tags, e.Stats[:0]
	return i
}

func (a *assembly) reject(why rejection) {
	a.rejected[why]++
	a.bad++
}

// assemble takes the readings of a got line. It returns false when the connection has been replaced meanwhile: what it
// says no longer counts. now is when the line came.
func (r *relay) assemble(s *session, a *assembly, args []byte, now int64) bool {
	a.reset(r.id)
	maxSeries := s.srv.opt.Limits.Series
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sess != s {
		return false
	}
	a.took = s.srv.poller.answered(r)
	r.line++
	var c *collector
	for reading := range relaywire.Readings(args) {
		if reading.Err != nil {
			a.reject(rejectionOf(reading.Err))
			continue
		}
		if c == nil || c.name != string(reading.Collector) {
			if c = r.byName[string(reading.Collector)]; c == nil {
				a.reject(rejectUnknownCollector)
				continue
			}
		}
		i := c.stats.find(reading.Stat)
		if i < 0 {
			if r.series >= maxSeries {
				a.reject(rejectSeriesLimit)
				continue
			}
			r.series++
			i = c.stats.add(reading.Stat)
		}
		stat := &c.stats.entries[i]
		if stat.line == r.line {
			a.reject(rejectDuplicate)
			continue
		}
		stat.line = r.line
		if c.line != r.line {
			c.line, c.slot = r.line, a.collector(c)
			c.fresh = false // it has a reading already
		}
		e := &a.event.Collectors[c.slot]
		e.Stats = append(e.Stats, codec.Stat{ID: stat.name.Value(), Value: reading.Value})
		a.good++
	}
	if a.good > 0 {
		a.event.Time = r.tick(s.srv, now, a.good)
	}
	return true
}

// tick returns the time of the next event: now, or just after the last one. Readings of one series get successive
// nanoseconds from there on, so as many are taken as the event has readings. It needs mu.
func (r *relay) tick(srv *Server, now int64, readings int) int64 {
	if now <= r.lastTime {
		if r.lastTime-now <= int64(maxStep) {
			now = r.lastTime + 1
		} else {
			srv.m.clockBack.Inc()
			srv.quiet.warn("clock", "the clock was set back; events follow it", "relay", r.id, "by", time.Duration(r.lastTime-now).String())
		}
	}
	r.lastTime = now + int64(readings-1)
	return now
}

func rejectionOf(err error) rejection {
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

// got brings the readings of a line to the journal, and waits until it has them.
func (s *session) got(args []byte) {
	srv := s.srv
	now := srv.opt.Now().UnixNano()
	a := srv.assemblies.Get().(*assembly)
	defer srv.release(a)
	if !s.relay.assemble(s, a, args, now) {
		return
	}
	if a.took > 0 {
		srv.m.latency.Observe(a.took.Seconds())
	}
	if a.bad > 0 {
		s.relay.rejected.Add(uint64(a.bad))
		for why, n := range a.rejected {
			if n > 0 {
				srv.m.rejected[why].Add(float64(n))
				srv.quiet.warn("rejected "+rejection(why).String(), "readings were not taken", "reason", rejection(why).String(), "relay", s.relay.id, "readings", n)
			}
		}
		if a.rejected[rejectSeriesLimit] > 0 {
			s.seriesLimit()
		}
	}
	if a.good > 0 {
		srv.append(s.relay, &a.event)
	}
}

func (s *session) seriesLimit() {
	if s.toldSeries {
		return
	}
	s.toldSeries = true
	limit := strconv.Itoa(s.srv.opt.Limits.Series)
	s.srv.m.denied.WithLabelValues(deniedSeries).Inc()
	s.srv.quiet.warn("series", "relay has too many series; new ones are refused", "relay", s.relay.id, "limit", limit)
	s.complain("too many series: a relay may have " + limit + ", readings of others are refused")
}

// append brings an event to the journal. One that is too large for it is split between collectors; the second part is a
// moment later.
func (srv *Server) append(r *relay, e *codec.Event) {
	_, err := srv.opt.Journal.Append(srv.ctx, e)
	if n := len(e.Collectors); n > 1 && errors.Is(err, journal.ErrTooLarge) {
		first, second := *e, *e
		first.Collectors, second.Collectors = e.Collectors[:n/2], e.Collectors[n/2:]
		srv.append(r, &first)
		r.mu.Lock()
		second.Time = r.tick(srv, e.Time, second.Readings())
		r.mu.Unlock()
		srv.append(r, &second)
		return
	}
	n := float64(e.Readings())
	if err == nil {
		srv.m.readings.Add(n)
		return
	}
	srv.m.lost.Add(n)
	if !errors.Is(err, context.Canceled) {
		srv.quiet.warn("append", "readings are lost: the journal does not take them", "error", err)
	}
}

// release gives an assembly back for the next line of any session.
func (srv *Server) release(a *assembly) {
	room := 0
	for _, c := range a.event.Collectors[:cap(a.event.Collectors)] {
		room += cap(c.Stats) + 1
	}
	if room <= keepReadings {
		srv.assemblies.Put(a)
	}
}
