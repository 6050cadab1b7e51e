package mist

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/jsontext"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	metricsTag = "metrics" // on everything that Pulse publishes
	hostKey    = "host:"
	edgeKey    = "edge:"

	// maxSeries bounds the series that are remembered, for names that never repeat. One more, and
	// all of them are forgotten.
	maxSeries = 1 << 19
)

// topics remembers the encoded beginning of every series' line. Its series differ from those of the
// other sinks by their tags: bare words are topics too. It belongs to one goroutine.
type topics struct {
	cache    lookup.Cache[struct{}, string]
	readings []lookup.Reading[struct{}, string]
	max      int // series
}

func newTopics() *topics {
	return &topics{cache: lookup.Cache[struct{}, string]{Tags: collectorTags}, max: maxSeries}
}

// appendMessages appends the readings of the event to dst, in their order.
func (t *topics) appendMessages(dst []message, e *codec.Event) []message {
	if t.cache.Len() > t.max {
		t.cache = newTopics().cache
	}
	t.readings = t.cache.Relay(e.Key()).Resolve(e, t.readings[:0])
	for i := range t.readings {
		s := t.readings[i].Series
		if s.Data == "" {
			s.Data = linePrefix(s.Set.Tags, s.Stat)
		}
		dst = append(dst, message{s.Data, t.readings[i].Value, e.Time})
	}
	return dst
}

// collectorTags returns the tags that all readings of a collector are published with: the relay as
// `host:ID`, its edge as `edge:NAME` if it has one, `metrics`, and the collector's tags as the relay
// sent them. The relay's id is the only host, and its edge the only edge, as in every other view: a
// collector's own `host:` tag is not passed on.
func collectorTags(relay codec.RelayKey, sent []string) []lookup.Tag {
	tags := []lookup.Tag{{Key: hostKey + relay.Relay}, {Key: metricsTag}}
	if relay.Edge != "" {
		tags = append(tags, lookup.Tag{Key: edgeKey + relay.Edge})
	}
	for _, t := range sent {
		if t != "" && !strings.HasPrefix(t, hostKey) && (relay.Edge == "" || !strings.HasPrefix(t, edgeKey)) {
			tags = append(tags, lookup.Tag{Key: t})
		}
	}
	return tags
}

// linePrefix returns the beginning of every line of a series, up to the value. The tags and the
// stat's id are sorted, each once. JSON can only hold UTF-8: each run of other bytes becomes one
// U+FFFD.
func linePrefix(tags []lookup.Tag, stat string) string {
	words := make([]string, 0, len(tags)+1)
	for _, t := range tags {
		words = append(words, strings.ToValidUTF8(t.Key, string(utf8.RuneError)))
	}
	if stat != "" {
		words = append(words, strings.ToValidUTF8(stat, string(utf8.RuneError)))
	}
	slices.Sort(words)
	dst := []byte(`{"command":"publish","tags":[`)
	for i, w := range slices.Compact(words) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsontext.AppendString(dst, w)
	}
	return string(append(dst, `],"data":"`...))
}
