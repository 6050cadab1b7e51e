package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nanopack/pulse/internal/cut"
	"github.com/nanopack/pulse/internal/tagfilter"
	"github.com/nanopack/pulse/relaywire"
)

// hostStatTags are the keys of the tags that host stats have of their own. Of two tags with one key
// only the first counts. So a tag mount that is given for all stats would merge all disks into one
// series.
var hostStatTags = []string{"device", "interface", "mount"}

// maxRelayTags leaves room for one of the tags of a host stat.
const maxRelayTags = relaywire.MaxTags - 1

// readTags reads --tags. It refuses tags that no query could filter by, because a user who gives
// one expects to.
func readTags(list string) ([]string, error) {
	var tags, keys []string
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag == "" || slices.Contains(tags, tag) {
			continue
		}
		key, value, ok := strings.Cut(tag, ":")
		switch {
		case !relaywire.ValidTag(tag):
			return nil, fmt.Errorf("%q: a tag is at most %d bytes of UTF-8 without control characters", shortTag(tag), relaywire.MaxTag)
		case !ok && strings.Contains(tag, "="):
			return nil, fmt.Errorf("%q: nothing could be filtered by it; a tag is key:value, so write %q", shortTag(tag), strings.Replace(shortTag(tag), "=", ":", 1))
		case ok && (key == "" || value == ""):
			return nil, fmt.Errorf("%q: nothing could be filtered by it; a tag is key:value, with something on both sides of the colon", shortTag(tag))
		case key == "host" && ok:
			return nil, fmt.Errorf("%q: host is always the relay's id, so write --id %s instead", shortTag(tag), value)
		case ok && slices.Contains(hostStatTags, key):
			return nil, fmt.Errorf("%q: this relay's stats have a tag %s of their own", shortTag(tag), key)
		case ok && slices.Contains(keys, key):
			return nil, fmt.Errorf("%q: there is a tag %s before it, and only the first of a key counts", shortTag(tag), key)
		case ok:
			if err := tagfilter.Check(key, value); err != nil {
				return nil, fmt.Errorf("%q: nothing could be filtered by it: %w", shortTag(tag), err)
			}
			keys = append(keys, key)
		}
		tags = append(tags, tag)
	}
	if len(tags) > maxRelayTags {
		return nil, fmt.Errorf("%d tags: a relay of a host may have %d", len(tags), maxRelayTags)
	}
	return tags, nil
}

// shortTag returns a tag as messages show it.
func shortTag(tag string) string { return cut.Text(tag, 60) }

// Warnings says what is allowed but most likely not meant.
func Warnings(id string, tags []string) (list []string) {
	name, _, _ := strings.Cut(strings.ToLower(id), ".")
	if slices.Contains([]string{"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}, name) {
		list = append(list, fmt.Sprintf("every host may be called %s, and of two relays with one id only one is connected at a time: give this one a name of its own with --id", id))
	}
	for _, tag := range tags {
		if !strings.Contains(tag, ":") {
			list = append(list, fmt.Sprintf("a bare word is a topic for mist and nothing else, no query can filter by it: a tag is key:value, and %q is none", shortTag(tag)))
		}
	}
	return list
}
