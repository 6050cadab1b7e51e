package kapa

import (
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

const (
	// maxGroups bounds the groups of one alert, maxWeight what the groups of all alerts hold in
	// memory. The weight of a group is groupWeight, and one for each slot of its window and each
	// collector that a deadman knows in it. One is about 50 bytes. A group beyond these bounds is
	// not watched, and the alert says so.
	maxGroups   = 10_000
	maxWeight   = 2 << 20
	groupWeight = 8
	// maxSeen bounds the collectors that a deadman knows in one group.
	maxSeen = 10_000
	// forgetAfter is how long a silent collector, or a group without readings, is remembered: as
	// long as the registry remembers a relay.
	forgetAfter = 7 * 24 * time.Hour
	// refreshEvery is how often the state file is told that a group that does not change still has
	// readings.
	refreshEvery = time.Hour
)

// group is the readings of an alert that have the same values of the tags in `by`.
type group struct {
	window window
	key    string // the values, in the order of by, with the relay's key for a host; "" without by
	state  groupState
	ofEdge bool // readings of an edge's relay are, or were, in it
	// The state file has the group if stored is set, as it was at the moment kept. The group must be
	// written at the next evaluation if dirty is set.
	stored, dirty bool
	kept          int64
	keptMean      *float64
}

const keySeparator = "\x00" // no tag that a relay sends has control characters

// values are those of the tags in by, with the relay's key for a host; nil without by.
func (g *group) values(a *Alert) []string {
	if len(a.By) == 0 {
		return nil
	}
	return strings.Split(g.key, keySeparator)
}

// name is how the group is called in what is posted.
func (g *group) name(a *Alert) string { return a.nameOf(g.values(a)) }

// tags are the group's, with the edge of its host if it has one; nil without by.
func (g *group) tags(a *Alert) map[string]string {
	values := g.values(a)
	if values == nil {
		return nil
	}
	tags := make(map[string]string, len(values))
	for i, key := range a.By {
		id, edge := splitRelay(values[i])
		tags[key] = id
		if edge != "" {
			tags[edgeTag] = edge
		}
	}
	return tags
}

// host is the key of the relay whose readings alone are in the group; "" if there may be others.
// Relays of several edges may have the host that an alert asks for.
func (g *group) host(a *Alert) string {
	if i := slices.Index(a.By, hostTag); i >= 0 {
		return g.values(a)[i]
	}
	host, edge := a.Tags[hostTag], a.Tags[edgeTag]
	switch {
	case host == "" || g.ofEdge && edge == "":
		return ""
	case g.ofEdge:
		return relayKey(codec.RelayKey{Edge: edge, Relay: host})
	}
	return host
}

// worthKeeping reports whether a restart must not forget the group: a deadman has to know whom to
// miss, and an alert that fired must be over some day. Any other group comes back with its
// readings.
func (g *group) worthKeeping(w *watch) bool { return w.deadman || g.state.fires() }

// valueOf is a tag's value. The first value of a tag counts, and the relay's id is the host,
// whatever host the relay gives. So it is with the edge of an edge's relay.
func valueOf(key string, event *codec.Event, tags []string) string {
	switch {
	case key == hostTag:
		return event.Relay
	case key == edgeTag && event.Edge != "":
		return event.Edge
	}
	for _, tag := range tags {
		if k, v, ok := strings.Cut(tag, ":"); ok && k == key {
			return v
		}
	}
	return ""
}
