package kapa

import (
	"context"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Apply takes the readings of the records, and evaluates what is due by their times. The error is
// the state file's. The records before the one that failed were taken then, and nothing else was.
func (e *Evaluator) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for i := range records {
		r := &records[i]
		if r.Seq <= e.applied {
			continue // offered again after an error
		}
		if e.marks.base == 0 && e.applied == 0 {
			e.marks.base = r.Seq - 1
		}
		switch {
		case r.Event != nil && r.Event.Past:
			// An alert is about now: what a relay could not say in time neither fires nor ends it.
		case r.Event != nil:
			// A time ahead of the clock is the clock's mistake, then or now.
			at := min(r.Event.Time, now.UnixNano())
			if until := at - int64(grace); until >= e.due {
				if err := e.evaluate(until, now); err != nil {
					return e.position(), err
				}
			}
			e.take(r.Seq, r.Event)
		case r.Relay == nil:
		case r.Relay.Kind == codec.RelayRemoved:
			for _, w := range e.watches {
				w.removeCollector(r.Relay)
			}
		case r.Relay.Kind == codec.RelayForgotten:
			if err := e.forgetRelay(r.Relay, now); err != nil {
				return e.position(), err
			}
		}
		e.applied = r.Seq
	}
	return e.position(), ctx.Err()
}

// take takes the readings of one event.
func (e *Evaluator) take(seq uint64, event *codec.Event) {
	e.marks.see(seq, event.Time, len(e.watches) > 0)
	relay := e.relay(event.Key())
	for i := range event.Collectors {
		c := &event.Collectors[i]
		for k := range c.Stats {
			e.index.find(c.Stats[k].ID, event, c, func(w *watch) {
				g := w.only
				if g == nil {
					if g = e.find(w, relay, event, c); g == nil {
						return
					}
				}
				if event.Edge != "" {
					g.ofEdge = true
				}
				w.take(g, event.Time, relay, c.Stats[k].Value)
				if w.deadman {
					e.see(w, g, relay, event.Time, c)
				}
			})
		}
	}
}

// find returns the group of an alert with by that the readings of the collector belong to, and
// makes the group if there is room. It returns nil if there is none.
func (e *Evaluator) find(w *watch, relay string, event *codec.Event, c *codec.Collector) *group {
	byHost := w.alert.byHost()
	var g *group
	if byHost {
		g = w.groups[relay] // without a copy of the key
	} else {
		e.key = e.key[:0]
		for i, key := range w.alert.By {
			if i > 0 {
				e.key = append(e.key, keySeparator...)
			}
			value := relay
			if key != hostTag {
				value = valueOf(key, event, c.Tags)
			}
			e.key = append(e.key, value...)
		}
		g = w.groups[string(e.key)]
	}
	if g != nil {
		return g
	}
	if len(w.groups) >= e.maxGroups || e.weight+w.weight > e.maxWeight {
		e.metrics.refused.Inc()
		if !w.full {
			w.full = true
			e.log.Warn("an alert has as many groups as may be; readings of others are not watched", "alert", w.alert.ID,
				"name", w.alert.Name(), "by", w.alert.By, "groups", len(w.groups))
		}
		w.refused = event.Time
		return nil
	}
	key := relay
	if !byHost {
		key = string(e.key)
	}
	g = w.add(key, groupState{Born: event.Time})
	e.weight += w.weight
	return g
}
