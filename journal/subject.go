package journal

import (
	"strings"
	"sync"
)

// maxSubject bounds a subject well below what the server's protocol takes.
const maxSubject = 2048

// Subjects of one relay.
type subjects struct{ readings, relays string }

// subjectCache keeps the subjects of the relays seen, so that an append does not build one. It is
// emptied when it is full; a fleet fits.
type subjectCache struct {
	mu sync.RWMutex
	m  map[string]subjects
}

func (c *subjectCache) get(relay string) (subjects, error) {
	c.mu.RLock()
	s, ok := c.m[relay]
	c.mu.RUnlock()
	if ok {
		return s, nil
	}
	token := Token(relay)
	if token == "" {
		return subjects{}, ErrNoRelay
	}
	if len(token)+len(subjectReadings) > maxSubject {
		return subjects{}, ErrTooLarge
	}
	s = subjects{readings: subjectReadings + token, relays: subjectRelays + token}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= 1<<16 {
		c.m = make(map[string]subjects)
	}
	c.m[strings.Clone(relay)] = s
	return s, nil
}

// Token is the subject token of a relay's id: every byte outside of A-Z a-z 0-9 _ - is percent-encoded,
// with capital hex digits.
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
