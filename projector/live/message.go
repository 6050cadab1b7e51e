package live

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/nanopack/pulse/journal/codec"
)

// The lines of mist's protocol, one JSON object each.
const (
	pingLine = `{"command":"ping"}` + "\n"
	pong     = `"pong"` // what the data of the answer to a ping looks like

	metricsTag = "metrics" // on everything that Pulse publishes
	hostKey    = "host:"
)

// message is one reading on its way to mist.
type message struct {
	prefix string // the line up to the value, see linePrefix
	value  float64
	time   int64 // the event's, nanoseconds since 1970 UTC
}

// shortest is the number of decimals that appendMessage uses.
const shortest = -1

// appendMessage appends the line of a message. The value is written as the shortest decimal that reads back
// as the same float64, never with an exponent.
func appendMessage(dst []byte, m *message) []byte { return appendRounded(dst, m, shortest) }

// appendRounded is appendMessage with so many decimals.
func appendRounded(dst []byte, m *message, decimals int) []byte {
	dst = append(dst, m.prefix...)
	dst = strconv.AppendFloat(dst, m.value, 'f', decimals, 64)
	return append(dst, '"', '}', '\n')
}

// linePrefix is what every message of a series begins with.
func linePrefix(tags []string) string {
	n := len(`{"command":"publish","tags":[],"data":"`)
	for _, t := range tags {
		n += len(t) + len(`"",`)
	}
	dst := append(make([]byte, 0, n), `{"command":"publish","tags":[`...)
	for i, t := range tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, t)
	}
	return string(append(dst, `],"data":"`...))
}

// authLine is what a server with a token wants to hear first.
func authLine(token string) []byte {
	dst := appendString([]byte(`{"command":"auth","tags":null,"data":`), token)
	return append(dst, '}', '\n')
}

// mistTags gives the tags that a reading is published with: the relay as `host:ID`, `metrics`, the collector's
// tags as the relay sent them, and the stat's id; sorted, each once. As in every other view the relay's id is
// the host: `host:` tags of a collector are not passed on. Bytes that are not UTF-8 cannot be said in JSON:
// each row of them becomes one U+FFFD.
func mistTags(relay string, c *codec.Collector, stat string) []string {
	tags := make([]string, 0, len(c.Tags)+3)
	add := func(t string) { tags = append(tags, strings.ToValidUTF8(t, string(utf8.RuneError))) }
	add(hostKey + relay)
	add(metricsTag)
	for _, t := range c.Tags {
		if t != "" && !strings.HasPrefix(t, hostKey) {
			add(t)
		}
	}
	if stat != "" {
		add(stat)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

const hex = "0123456789abcdef"

// appendString appends a JSON string. What is not UTF-8 becomes U+FFFD, byte by byte; no other byte than
// those of JSON's own syntax can end the string or the line.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		b := s[i]
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < ' ' || b == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		case b < utf8.RuneSelf:
			dst = append(dst, b)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r) // RuneError for what is no rune
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}
