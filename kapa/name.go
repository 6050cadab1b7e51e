package kapa

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// namePart is a piece of an alert's name: a text, or the value that a group has of a tag.
type namePart struct{ text, key string }

// nameParts are the parts of the name in what is posted, by which receivers identify an alert: the
// host in brackets and the metric, as in Pulse 0.2. Other tags stand in for a host, and * for no
// tags. The tags in By are always in the name, so that each group has a name of its own.
func (a *Alert) nameParts() []namePart {
	keys := map[string]bool{}
	for _, key := range a.By {
		keys[key] = true
	}
	if _, filtered := a.Tags["host"]; !filtered && !keys["host"] {
		for key := range a.Tags {
			keys[key] = true
		}
	} else {
		keys["host"] = true
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
	if keys["host"] {
		add("host", "")
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key != "host" {
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

// nameOf is the name of the group with these values of the tags in By.
func (a *Alert) nameOf(values []string) string {
	var b strings.Builder
	for _, part := range a.nameParts() {
		switch {
		case part.key == "":
			b.WriteString(part.text)
		case values == nil:
			b.WriteString("*")
		default:
			b.WriteString(values[slices.Index(a.By, part.key)])
		}
	}
	return b.String()
}

// nameTemplate is the name as a Go template of Kapacitor's, in which a group's tags are .Tags.
func (a *Alert) nameTemplate(stored func(string) string) string {
	if len(a.By) == 0 {
		return literal(a.Name())
	}
	var b strings.Builder
	for _, part := range a.nameParts() {
		if part.key == "" {
			b.WriteString(literal(part.text))
		} else {
			b.WriteString("{{ index .Tags " + strconv.Quote(stored(part.key)) + " }}")
		}
	}
	return b.String()
}
