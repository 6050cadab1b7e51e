package lookup

import (
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/journal/codec"
)

// Tag is one key and value of a series.
type Tag struct{ Key, Value string }

// Tags returns the tags of a reading as every view of Pulse keeps them, sorted by key: the relay's
// id as `host`, the name of its edge as `edge`, if it is a relay of an edge, and the `key:value` tags
// that the collector sent. `host` and `edge` of Pulse win over those that the relay sent; of two tags
// with one key the first wins. Bare words, tags without a key or a value, and the key `time` are not
// kept: in InfluxDB only the time of a point can have the name `time`.
func Tags(relay codec.RelayKey, sent []string) []Tag {
	ours := []Tag{{influxnames.Host, relay.Relay}, {influxnames.Edge, relay.Edge}}
	if relay.Edge == "" {
		ours = ours[:1]
	}
	tags := append(make([]Tag, 0, len(ours)+len(sent)), ours...)
	for _, s := range sent {
		key, value, ok := strings.Cut(s, ":")
		if !ok || key == "" || value == "" || key == "time" {
			continue
		}
		if slices.ContainsFunc(tags, func(t Tag) bool { return t.Key == key }) {
			continue
		}
		tags = append(tags, Tag{key, value})
	}
	slices.SortFunc(tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return tags
}

// appendKey appends an encoding of tags that is equal for equal tags only: the length of each
// string, then the string.
func appendKey(dst []byte, tags []Tag) []byte {
	for _, t := range tags {
		for _, s := range [...]string{t.Key, t.Value} {
			n := len(s)
			dst = append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			dst = append(dst, s...)
		}
	}
	return dst
}
