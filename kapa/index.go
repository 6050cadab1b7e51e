package kapa

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nanopack/pulse/journal/codec"
)

// index finds the watches that may count a reading, so that the cost of a reading does not grow
// with the alerts on others: a thousand alerts on one metric, each for a host of its own, are one
// look-up.
type index struct {
	ordered []*watch // by the alerts' ids
	metrics map[string]*candidates
}

// candidates are the watches of one metric. Each watch stands in one place.
type candidates struct {
	all   []*watch            // ask for no tag
	hosts map[string][]*watch // ask for this host, and perhaps for other tags
	edges map[string][]*watch // ask for no host, but for this edge
	tags  map[string][]*watch // ask for neither, but for this tag, "key:value" as relays send it
}

func newIndex(watches map[string]*watch) index {
	x := index{metrics: map[string]*candidates{}}
	x.ordered = slices.SortedFunc(maps.Values(watches), func(a, b *watch) int { return cmp.Compare(a.alert.ID, b.alert.ID) })
	for _, w := range x.ordered {
		c := x.metrics[w.alert.Metric]
		if c == nil {
			c = &candidates{hosts: map[string][]*watch{}, edges: map[string][]*watch{}, tags: map[string][]*watch{}}
			x.metrics[w.alert.Metric] = c
		}
		host, hasHost := w.alert.Tags[hostTag]
		edge, hasEdge := w.alert.Tags[edgeTag]
		switch {
		case len(w.alert.Tags) == 0:
			c.all = append(c.all, w)
		case hasHost:
			c.hosts[host] = append(c.hosts[host], w)
		case hasEdge:
			c.edges[edge] = append(c.edges[edge], w)
		default:
			key := slices.Min(slices.Collect(maps.Keys(w.alert.Tags)))
			tag := key + ":" + w.alert.Tags[key]
			c.tags[tag] = append(c.tags[tag], w)
		}
	}
	return x
}

// find calls found once with each watch that counts readings of the metric that this collector
// sends in the event.
func (x *index) find(metric string, event *codec.Event, c *codec.Collector, found func(*watch)) {
	may := x.metrics[metric]
	if may == nil {
		return
	}
	for _, w := range may.all {
		found(w)
	}
	for _, w := range may.hosts[event.Relay] {
		if w.matches(event, c.Tags) {
			found(w)
		}
	}
	if len(may.edges) > 0 {
		for _, w := range may.edges[valueOf(edgeTag, event, c.Tags)] {
			if w.matches(event, c.Tags) {
				found(w)
			}
		}
	}
	if len(may.tags) == 0 {
		return
	}
	for i, tag := range c.Tags {
		for _, w := range may.tags[tag] {
			// A collector may have a tag twice.
			if slices.Index(c.Tags, tag) == i && w.matches(event, c.Tags) {
				found(w)
			}
		}
	}
}
