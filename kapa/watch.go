package kapa

import (
	"strings"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/journal/codec"
)

// watch is an alert in the evaluator, with its groups.
type watch struct {
	only      *group // the group of an alert without by: single, so that it is near in memory
	deadman   bool
	single    group
	alert     Alert
	evaluated int64 // the last moment that was evaluated, or at which the alert was made
	groups    map[string]*group
	width     int64 // of a slot
	weight    int   // of a group
	filled    int   // groups that have readings in their windows
	firing    int   // groups that are not OK
	// members finds the group of a collector's newest reading, for a deadman whose groups are not
	// the hosts.
	members map[string]*group
	refused int64 // when a reading was last refused because there are too many groups; 0 never
	full    bool  // that was logged
}

// newWatch begins with the states that are kept.
func newWatch(a Alert, s keptState) *watch {
	w := &watch{alert: a, deadman: a.Deadman != 0, evaluated: s.evaluated, width: int64(gcd(a.Duration, a.Every)),
		groups: map[string]*group{}}
	w.weight = groupWeight + int(int64(a.Duration)/w.width)
	if w.deadman && len(a.By) > 0 && !a.byHost() {
		w.members = map[string]*group{}
	}
	if len(a.By) == 0 {
		w.only = w.add("", s.groups[""])
		return w
	}
	for key, g := range s.groups {
		added := w.add(key, g)
		added.stored, added.kept, added.keptMean = true, s.evaluated, g.Mean
	}
	return w
}

// takeWindows takes over the readings of the watch before, which counted the same readings.
func (w *watch) takeWindows(old *watch) {
	for key, was := range old.groups {
		g := w.groups[key]
		if g == nil {
			g = w.add(key, was.state)
		}
		g.ofEdge = g.ofEdge || was.ofEdge
		if g.window = was.window; len(g.window.slots) > 0 {
			w.filled++
		}
	}
}

// add makes a group.
func (w *watch) add(key string, s groupState) *group {
	if !w.deadman {
		s.Seen, s.Silent, s.Removed = nil, nil, nil
	} else if s.Seen == nil {
		s.Seen = map[string]int64{}
	}
	g := &group{}
	if len(w.alert.By) == 0 {
		g = &w.single
	}
	g.key, g.state, g.ofEdge = key, s, strings.Contains(s.From, edgeSeparator)
	w.groups[key] = g
	if w.members != nil {
		for member := range s.Seen {
			w.members[member] = g
		}
	}
	for member := range s.Seen {
		g.ofEdge = g.ofEdge || strings.Contains(member, edgeSeparator)
	}
	if s.Level != "" {
		w.firing++
	}
	return g
}

// remove forgets a group. It returns the weight that becomes free.
func (w *watch) remove(g *group) (freed int) {
	delete(w.groups, g.key)
	for member := range g.state.Seen {
		w.forgetMember(g, member)
	}
	if len(g.window.slots) > 0 {
		w.filled--
	}
	return w.weight + len(g.state.Seen)
}

// forgetMember forgets that the collector's newest reading was in the group.
func (w *watch) forgetMember(g *group, member string) {
	if w.members[member] == g {
		delete(w.members, member)
	}
}

// matches reports whether a reading with these tags counts.
func (w *watch) matches(event *codec.Event, tags []string) bool {
	for key, want := range w.alert.Tags {
		if valueOf(key, event, tags) != want {
			return false
		}
	}
	return true
}

// take takes a reading of the group.
func (w *watch) take(g *group, at int64, relay string, value float64) {
	if at < g.window.since || at >= g.window.until {
		w.enter(g, at, relay)
	}
	g.window.current.add(value)
}

func (w *watch) enter(g *group, at int64, relay string) {
	if len(g.window.slots) == 0 {
		w.filled++
	}
	g.window.enter(at, w.width)
	if at >= g.state.Last {
		g.state.Last, g.state.From = at, relay
	}
}

// firstSlot is the first slot that an evaluation at a moment needs.
func (w *watch) firstSlot(at int64) int64 { return floor.Div(at-int64(w.alert.Duration), w.width) }

// mean is that of the group's readings in [at-duration, at).
func (w *watch) mean(g *group, at int64) (float64, bool) {
	return g.window.mean(w.firstSlot(at), floor.Div(at, w.width))
}

// forget drops what no window after at needs.
func (w *watch) forget(g *group, at int64) {
	if len(g.window.slots) == 0 {
		return
	}
	g.window.forget(w.firstSlot(at))
	if len(g.window.slots) == 0 {
		w.filled--
	}
}

// clear drops all that the window holds.
func (w *watch) clear(g *group) {
	if len(g.window.slots) > 0 {
		g.window = window{}
		w.filled--
	}
}

// due is the next moment of the alert to evaluate, after the last one.
func (w *watch) due() int64 {
	every := int64(w.alert.Every)
	return floor.To(w.evaluated, every) + every
}

// next is the next moment to evaluate; ok is false if that is after until. Where there is nothing
// to evaluate, it is the last such moment: no state changes because there are no readings for days.
func (w *watch) next(until int64) (at int64, ok bool) {
	at = w.due()
	if w.filled == 0 {
		at = max(at, floor.To(until, int64(w.alert.Every)))
	}
	return at, at <= until
}
