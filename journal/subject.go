package journal

import (
	"strings"
	"sync"

	"github.com/nanopack/pulse/journal/codec"
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
	token := codec.Token(relay)
	if token == "" {
		return subjects{}, ErrNoRelay
	}
	if len(token)+len(codec.ReadingsSubject) > maxSubject {
		return subjects{}, ErrTooLarge
	}
	s = subjects{readings: codec.ReadingsSubject + token, relays: codec.RelaysSubject + token}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= 1<<16 {
		c.m = make(map[string]subjects)
	}
	c.m[strings.Clone(relay)] = s
	return s, nil
}
