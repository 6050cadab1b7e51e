package latest

import (
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

// hold is an override that has a collector polled less often than usual.
type hold struct {
	name     string // the event's reason, which names the override
	interval time.Duration
	ends     int64 // ns since 1970 UTC
}

// Override tells of an override that began before the records that Apply will get. It is for the
// time before the runner starts.
func (l *Latest) Override(e codec.RelayEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.override(&e)
}

// override takes an override's beginning or end, under the lock, and counts the rows that it
// changed. Readings may be older from the beginning on, since the next poll is that far away.
func (l *Latest) override(e *codec.RelayEvent) int {
	if e.Duration == 0 {
		return l.cancel(e)
	}
	if e.Interval <= l.poll {
		return 0
	}
	collectors := l.overrides[e.Relay]
	if collectors == nil {
		collectors = make(map[string][]hold)
		l.overrides[e.Relay] = collectors
	}
	holds := slices.DeleteFunc(collectors[e.Collector], func(h hold) bool { return h.name == e.Reason })
	collectors[e.Collector] = append(holds, hold{name: e.Reason, interval: e.Interval, ends: e.Time + int64(e.Duration)})
	slack := l.slackOf(e.Interval)
	return l.rowsOf(e, func(r *row) { r.slack = max(r.slack, slack) })
}

// cancel takes the end of an override before its time. What was read last stays fresh until the
// next regular poll is answered: as if it had been read now.
func (l *Latest) cancel(e *codec.RelayEvent) int {
	collectors := l.overrides[e.Relay]
	holds, known := collectors[e.Collector]
	if !known {
		return 0
	}
	name := strings.TrimSuffix(e.Reason, " cancelled")
	left := slices.DeleteFunc(slices.Clone(holds), func(h hold) bool { return h.name == name })
	if len(left) == len(holds) {
		return 0 // one that was not slow
	}
	collectors[e.Collector] = left
	if len(left) == 0 {
		delete(collectors, e.Collector)
	}
	slack := l.slack(left, e.Time)
	return l.rowsOf(e, func(r *row) { r.slack = max(slack, min(r.slack, max(0, e.Time-r.time))) })
}

// rowsOf visits the rows of a collector that is known, under the lock, and counts them.
func (l *Latest) rowsOf(e *codec.RelayEvent, visit func(*row)) int {
	n := 0
	if r := l.cache.Find(e.Relay); r != nil {
		r.Collector(e.Collector, func(s *lookup.Series[struct{}, slot]) {
			if at := s.Data; at.table != nil {
				visit(&at.table.rows[at.row])
				n++
			}
		})
	}
	return n
}

// extend gives the rows of the event's readings the slack of their collectors, under the lock.
// l.readings are those of the event.
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

// slack is that of a reading made at a time.
func (l *Latest) slack(holds []hold, at int64) (slack int64) {
	for _, h := range holds {
		if h.ends > at {
			slack = max(slack, l.slackOf(h.interval))
		}
	}
	return slack
}

// slackOf is how much older than usual a reading may be: two intervals, as ever.
func (l *Latest) slackOf(interval time.Duration) int64 { return 2 * int64(interval-l.poll) }

// pruneOverrides forgets what has ended.
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
