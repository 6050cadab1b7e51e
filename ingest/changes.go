package ingest

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// changes are the relays whose records in the state file are no longer what they should be. The
// keeper writes the records a moment later, many at once.
type changes struct {
	wake chan struct{} // has room for one, which is there after every add

	mu     sync.Mutex // guards relays; nothing else is locked under it
	relays map[string]*relay
}

func newChanges() *changes {
	return &changes{wake: make(chan struct{}, 1), relays: make(map[string]*relay)}
}

// add has the record of r written soon. Of two relays that had one id, one after the other, the
// later one counts.
func (c *changes) add(r *relay) {
	c.mu.Lock()
	c.relays[r.id] = r
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it is full: the keeper will see the change
	}
}

// take returns all of them, in the order of their ids, so that neighbours in the state file are
// written together.
func (c *changes) take() []*relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	relays := slices.SortedFunc(maps.Values(c.relays), byID)
	clear(c.relays)
	return relays
}

// giveBack returns relays that were taken and could not be written.
func (c *changes) giveBack(relays []*relay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range relays {
		if c.relays[r.id] == nil {
			c.relays[r.id] = r
		}
	}
}

func byID(a, b *relay) int { return cmp.Compare(a.id, b.id) }
