package codec

import "strings"

// Subjects begin with one of these; the [Token] of the relay follows.
const (
	ReadingsSubject = "pulse.readings." // of an [Event]; with PastSuffix of one from the past
	RelaysSubject   = "pulse.relays."   // of a [RelayEvent]
)

// PastSuffix ends the subject of an [Event] that is [Event.Past].
const PastSuffix = ".past"

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
