package codec

import "strings"

// Subjects begin with one of these; the [Token] of the relay follows. The name of an edge comes
// behind "pulse.", in what a hub took from it: see [Subjects].
const (
	ReadingsSubject = "pulse.readings." // of an [Event]; with PastSuffix of one from the past
	RelaysSubject   = "pulse.relays."   // of a [RelayEvent]

	root = "pulse."
)

// PastSuffix ends the subject of an [Event] that is [Event.Past].
const PastSuffix = ".past"

// MaxEdge is how long the name of an edge may be.
const MaxEdge = 64

// ValidEdge reports whether name can be the name of an edge: 1 to MaxEdge of A-Z a-z 0-9 _ -, and no
// word that stands in its place in a subject of this Pulse's own relays.
func ValidEdge(name string) bool {
	switch name {
	case "", "readings", "relays", "live":
		return false
	}
	for i := 0; i < len(name); i++ {
		if !tokenByte(name[i]) {
			return false
		}
	}
	return len(name) <= MaxEdge
}

// Subjects returns the subjects of a relay's readings and of its relay events, such as
// pulse.readings.web1, or pulse.ams1.readings.web1 of a relay of the edge ams1. They are "" if the
// relay has no id.
func Subjects(key RelayKey) (readings, events string) {
	token := Token(key.Relay)
	if token == "" {
		return "", ""
	}
	if key.Edge == "" {
		return ReadingsSubject + token, RelaysSubject + token
	}
	edge := root + key.Edge + "."
	return edge + ReadingsSubject[len(root):] + token, edge + RelaysSubject[len(root):] + token
}

// OfEdge is the filter of all subjects of an edge.
func OfEdge(edge string) string { return root + edge + ".>" }

// Kind reports what is stored under a subject: an [Event], a [RelayEvent], or nothing that is known.
func Kind(subject string) (event, relayEvent bool) {
	rest, ok := strings.CutPrefix(subject, root)
	if !ok {
		return false, false
	}
	first, rest, _ := strings.Cut(rest, ".")
	if first != "readings" && first != "relays" { // it is an edge
		first, _, _ = strings.Cut(rest, ".")
	}
	return first == "readings", first == "relays"
}

// Token is the subject token of a relay's id: every byte outside of A-Z a-z 0-9 _ - is
// percent-encoded, with capital hex digits.
func Token(relay string) string {
	n := 0
	for i := 0; i < len(relay); i++ {
		if !tokenByte(relay[i]) {
			n++
		}
	}
	if n == 0 {
		return strings.Clone(relay)
	}
	b := make([]byte, 0, len(relay)+2*n)
	for i := 0; i < len(relay); i++ {
		if c := relay[i]; tokenByte(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return string(b)
}

func tokenByte(c byte) bool {
	return c-'0' <= 9 || c|0x20-'a' <= 'z'-'a' || c == '_' || c == '-'
}
