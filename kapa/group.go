package kapa

import (
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

const (
	// maxGroups bounds the groups of one alert, maxWeight what the groups of all alerts hold in memory. The weight of a
	// group is groupWeight, and one for each slot of its window and each collector that a deadman knows in it; one is
	// about 50 bytes. A group that would be beyond is not watched, and the alert says so.
	maxGroups   = 10_000
	maxWeight   = 2 << 20
	groupWeight = 8
	// maxSeen bounds the collectors that a deadman knows in one group.
	maxSeen = 10_000
	// forgetAfter is how long a silent collector, or a group without readings, is remembered: as long as the registry
	// remembers a relay.
	forgetAfter = 7 * 24 * time.Hour
	// refreshEvery is how often the state file is told that a group that does not change still has readings.
	refreshEvery = time.Hour
)

// groupState is what the evaluator keeps of a group in the state file. An alert without `by` is one group. Times are
// nanoseconds since 1970 UTC.
type groupState struct {
	Beyond    bool             `json:"beyond,omitempty"`    // the mean crossed the threshold and did not come back
	Silent    []string         `json:"silent,omitempty"`    // relays that the deadman misses
	Level     Level            `json:"level,omitempty"`     // as it fires, "" is OK
	Since     int64            `json:"since,omitempty"`     // when Level became that
	Announced Level            `json:"announced,omitempty"` // the level that was last posted (or queued for it)
	Began     int64            `json:"began,omitempty"`     // when the announced level left OK
	Mean      *float64         `json:"mean,omitempty"`      // of the last evaluation that had one
	Seen      map[string]int64 `json:"seen,omitempty"`      // with a deadman: the newest reading by relay and collector
	Removed   map[string]bool  `json:"removed,omitempty"`   // those of Seen that their relays removed
	Born      int64            `json:"born,omitempty"`      // its first reading, or when it was last ended
	Last      int64            `json:"last,omitempty"`      // the first reading of its newest slot
	From      string           `json:"from,omitempty"`      // the relay that sent that
}

// fires reports whether the group is something that somebody was told of, or will be.
func (s *groupState) fires() bool { return s.Level != "" || s.Announced != "" || s.Beyond }

// group is the readings of an alert that have the same values of the tags in `by`.
type group struct {
	window window
	key    string // the values, in the order of by; "" without by
	state  groupState
	// The state file has it if stored is set, as it was at the moment kept. It must be written at the next evaluation
	// if dirty is.
	stored, dirty bool
	kept          int64
	keptMean      *float64
}

const keySeparator = "\x00" // no tag that a relay sends has control characters

// values are those of the tags in by; nil without by.
func (g *group) values(a *Alert) []string {
	if len(a.By) == 0 {
		return nil
	}
	return strings.Split(g.key, keySeparator)
}

// name is how the group is called in what is posted.
func (g *group) name(a *Alert) string { return a.nameOf(g.values(a)) }

// tags are the group's, nil without by.
func (g *group) tags(a *Alert) map[string]string {
	values := g.values(a)
	if values == nil {
		return nil
	}
	tags := make(map[string]string, len(values))
	for i, key := range a.By {
		tags[key] = values[i]
	}
	return tags
}

// host is the relay whose readings alone are in the group; "" if there may be others.
func (g *group) host(a *Alert) string {
	if i := slices.Index(a.By, "host"); i >= 0 {
		return g.values(a)[i]
	}
	return a.Tags["host"]
}

// find returns the group of an alert with by that the readings of the collector belong to, and makes it if there is room. It
// returns nil if there is none.
func (e *Evaluator) find(w *watch, event *codec.Event, c *codec.Collector) *group {
	var g *group
	if len(w.alert.By) == 1 && w.alert.By[0] == "host" {
		g = w.groups[event.Relay] // without a copy of the key
	} else {
		e.key = e.key[:0]
		for i, key := range w.alert.By {
			if i > 0 {
				e.key = append(e.key, keySeparator...)
			}
			e.key = append(e.key, valueOf(key, event.Relay, c.Tags)...)
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
	key := event.Relay
	if len(w.alert.By) != 1 || w.alert.By[0] != "host" {
		key = string(e.key)
	}
	g = w.add(key, groupState{Born: event.Time})
	e.weight += w.weight
	return g
}

// valueOf is a tag's value. A tag's first value wins, and the relay's id is the host whatever the relay says itself.
func valueOf(key, relay string, tags []string) string {
	if key == "host" {
		return relay
	}
	for _, tag := range tags {
		if k, v, ok := strings.Cut(tag, ":"); ok && k == key {
			return v
		}
	}
	return ""
}
