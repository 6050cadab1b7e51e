package kapa

import (
	"maps"
	"slices"
	"strings"

	"github.com/nanopack/pulse/journal/codec"
)

// see notes that a collector of the relay sent a reading of the group, for the deadman.
func (e *Evaluator) see(w *watch, g *group, relay string, at int64, c *codec.Collector) {
	s := &g.state
	e.key = append(append(append(e.key[:0], relay...), keySeparator...), c.Name...)
	last, known := s.Seen[string(e.key)]
	if known && last >= at {
		return
	}
	key := string(e.key)
	if !known {
		if len(s.Seen) >= maxSeen || e.weight >= e.maxWeight {
			e.metrics.late.Inc()
			return
		}
		e.weight++
		g.dirty = true
	}
	s.Seen[key] = at
	if s.Removed[key] {
		delete(s.Removed, key)
		g.dirty = true
	}
	if w.members != nil {
		w.members[key] = g
	}
}

// removeCollector notes that a relay removed a collector. That alone is no silence, because the
// relay may have other collectors. It does not end a silence either: an agent that is shut down
// removes all collectors that it has.
func (w *watch) removeCollector(r *codec.RelayEvent) {
	if !w.deadman {
		return
	}
	relay := relayKey(r.Key())
	key := seenKey(relay, r.Collector)
	g := w.only
	switch {
	case w.members != nil:
		g = w.members[key]
	case g == nil:
		g = w.groups[relay]
	}
	if g == nil {
		return
	}
	if _, known := g.state.Seen[key]; !known {
		return
	}
	if g.state.Removed == nil {
		g.state.Removed = map[string]bool{}
	}
	g.state.Removed[key], g.dirty = true, true
}

// silent lists the relays that the deadman misses at a moment: those with a collector that sent
// nothing for the deadman's time, while Pulse listened all of that time, since listening. A relay
// that was missed before is missed until it sends readings, however long Pulse has been listening.
// A collector that its relay removed is not missed while the relay has others. over lists the
// collectors that need not be remembered any more.
func (s *groupState) silent(deadman Duration, at, listening int64) (missing, over []string) {
	var quiet []string
	for key, last := range s.Seen {
		since := max(last, listening)
		if len(s.Silent) > 0 && at-last > int64(deadman) {
			if _, missed := slices.BinarySearch(s.Silent, relayOf(key)); missed {
				since = last
			}
		}
		switch {
		case at-last > int64(forgetAfter):
			over = append(over, key)
		case at-since > int64(deadman):
			quiet = append(quiet, key)
		}
	}
	if len(quiet) == 0 {
		return nil, over
	}
	speaks := map[string]bool{}
	if len(s.Removed) > 0 {
		for key := range without(s.Seen, slices.Concat(quiet, over)) {
			speaks[relayOf(key)] = true
		}
	}
	relays := map[string]bool{}
	for _, key := range quiet {
		if relay := relayOf(key); s.Removed[key] && speaks[relay] {
			over = append(over, key)
		} else {
			relays[relay] = true
		}
	}
	return slices.Sorted(maps.Keys(relays)), over
}

func seenKey(relay, collector string) string { return relay + keySeparator + collector }

func relayOf(key string) string {
	relay, _, _ := strings.Cut(key, keySeparator)
	return relay
}
