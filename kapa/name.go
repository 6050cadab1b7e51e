package kapa

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// namePart is a piece of an alert's name: a text, or the value that a group has of a tag. If it is
// both, it stands only in the names of groups whose host has an edge.
type namePart struct{ text, key string }

// nameParts are the parts of the name in what is posted, by which receivers identify an alert: the
// host in brackets and the metric, as in Pulse 0.2. Other tags stand in for a host, and * for no
// tags. The tags in By are always in the name, so that each group has a name of its own. The edge is in
// the name of a host that has one.
func (a *Alert) nameParts() []namePart {
	keys := map[string]bool{}
	for _, key := range a.By {
		keys[key] = true
	}
	if _, filtered := a.Tags[hostTag]; !filtered && !keys[hostTag] {
		for key := range a.Tags {
			keys[key] = true
		}
	} else {
		keys[hostTag] = true
		if _, filtered := a.Tags[edgeTag]; filtered {
			keys[edgeTag] = true
		}
	}
	var who []namePart
	add := func(key, label string) {
		if len(who) > 0 {
			label = "," + label
		}
		if slices.Contains(a.By, key) {
			who = append(who, namePart{text: label}, namePart{key: key})
		} else {
			who = append(who, namePart{text: label + a.Tags[key]})
		}
	}
	if keys[hostTag] {
		add(hostTag, "")
		if slices.Contains(a.By, hostTag) && !keys[edgeTag] {
			who = append(who, namePart{text: ",edge:", key: edgeTag})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key != hostTag {
			add(key, key+":")
		}
	}
	if len(who) == 0 {
		who = append(who, namePart{text: "*"})
	}
	return slices.Concat([]namePart{{text: "["}}, who, []namePart{{text: "] " + a.Metric}})
}

// Name is the name of an alert without groups. For an alert with groups it is a pattern, with * for
// what differs from group to group.
func (a *Alert) Name() string { return a.nameOf(nil) }

// nameOf is the name of the group with these values of the tags in By, as in group.values.
func (a *Alert) nameOf(values []string) string {
	var b strings.Builder
	edge := "" // of the group's host
	for _, part := range a.nameParts() {
		switch {
		case part.key == "":
			b.WriteString(part.text)
		case part.text != "":
			if edge != "" {
				b.WriteString(part.text + edge)
			}
		case values == nil:
			b.WriteString("*")
		case part.key == hostTag:
			var id string
			id, edge = splitRelay(values[slices.Index(a.By, hostTag)])
			b.WriteString(id)
		default:
			b.WriteString(values[slices.Index(a.By, part.key)])
		}
	}
	return b.String()
}

// nameTemplate is the name as a Go template of Kapacitor's, in which a group's tags are .Tags. Where
// there are edges, they have the edge too.
func (a *Alert) nameTemplate(stored func(string) string, edges bool) string {
	if len(a.By) == 0 {
		return literal(a.Name())
	}
	var b strings.Builder
	for _, part := range a.nameParts() {
		value := "index .Tags " + strconv.Quote(stored(part.key))
		switch {
		case part.key == "":
			b.WriteString(literal(part.text))
		case part.text == "":
			b.WriteString("{{ " + value + " }}")
		case edges:
			b.WriteString("{{ with " + value + " }}" + literal(part.text) + "{{ . }}{{ end }}")
		}
	}
	return b.String()
}
