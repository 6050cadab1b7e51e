package latest

import (
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

// hold is an override that makes the polls of a collector rarer than usual.
type hold struct {
	name     string // the event's reason, which names the override
	interval time.Duration
	ends     int64 // ns since 1970 UTC
}

// Override applies an override that began before the records that Apply will get. It must be called
// before the runner starts.
func (l *Latest) Override(e codec.RelayEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.override(&e)
}

// override applies the beginning or the cancellation of an override, and counts the rows that it
// changed. mu is held. Readings may be older from the beginning of the override on, because the
// next poll may be a whole interval away.
func (l *Latest) override(e *codec.RelayEvent) int {
	if e.Duration == 0 {
		return l.cancel(e)
	}
	if e.Interval <= l.poll {
		return 0
	}
	collectors := l.overrides[e.Key()]
	if collectors == nil {
		collectors = make(map[string][]hold)
		l.overrides[e.Key()] = collectors
	}
	holds := slices.DeleteFunc(collectors[e.Collector], func(h hold) bool { return h.name == e.Reason })
	collectors[e.Collector] = append(holds, hold{name: e.Reason, interval: e.Interval, ends: e.Time + int64(e.Duration)})
	slack := l.slackOf(e.Interval)
	return l.rowsOf(e, func(r *row) { r.slack = max(r.slack, slack) })
}

// cancel applies the cancellation of an override. The last readings stay fresh until the next
// regular poll is answered: they count as read at the time of the cancellation.
func (l *Latest) cancel(e *codec.RelayEvent) int {
	collectors := l.overrides[e.Key()]
	holds, known := collectors[e.Collector]
	if !known {
		return 0
	}
	name := strings.TrimSuffix(e.Reason, " cancelled")
	left := slices.DeleteFunc(slices.Clone(holds), func(h hold) bool { return h.name == name })
	if len(left) == len(holds) {
		return 0 // the override was not slow
	}
	collectors[e.Collector] = left
	if len(left) == 0 {
		delete(collectors, e.Collector)
	}
	slack := l.slack(left, e.Time)
	return l.rowsOf(e, func(r *row) { r.slack = max(slack, min(r.slack, max(0, e.Time-r.time))) })
}

// rowsOf visits the rows of a known collector and counts them. mu is held.
func (l *Latest) rowsOf(e *codec.RelayEvent, visit func(*row)) int {
	n := 0
	if r := l.cache.Find(e.Key()); r != nil {
		r.Collector(e.Collector, func(s *lookup.Series[struct{}, slot]) {
			if at := s.Data; at.table != nil {
				visit(&at.table.rows[at.row])
				n++
			}
		})
	}
	return n
}

// extend gives the rows of the event's readings the slack of their collectors. l.readings must be
// those of the event. mu is held.
func (l *Latest) extend(e *codec.Event, collectors map[string][]hold) {
	i := 0
	for c := range e.Collectors {
		slack := l.slack(collectors[e.Collectors[c].Name], e.Time)
		for range e.Collectors[c].Stats {
			if at := &l.readings[i].Series.Data; slack > 0 {
				at.table.rows[at.row].slack = slack
			}
			i++
		}
	}
}

// slack returns the slack, in ns, of a reading made at the time at, under the overrides holds.
func (l *Latest) slack(holds []hold, at int64) (slack int64) {
	for _, h := range holds {
		if h.ends > at {
			slack = max(slack, l.slackOf(h.interval))
		}
	}
	return slack
}

// slackOf returns how much older than usual, in ns, a reading may be. A reading may always be two
// intervals old.
func (l *Latest) slackOf(interval time.Duration) int64 { return 2 * int64(interval-l.poll) }

// pruneOverrides forgets the overrides that have ended.
func (l *Latest) pruneOverrides(now time.Time) {
	for relay, collectors := range l.overrides {
		for name, holds := range collectors {
			holds = slices.DeleteFunc(holds, func(h hold) bool { return h.ends <= now.UnixNano() })
			if collectors[name] = holds; len(holds) == 0 {
				delete(collectors, name)
			}
		}
		if len(collectors) == 0 {
			delete(l.overrides, relay)
		}
	}
}
