package source

import (
	"sync"
	"time"
)

// patience is how long a poll waits for a value that is being made.
const patience = 250 * time.Millisecond

// Cached is a value that takes time to make, such as the output of a command. It is made when it is
// asked for, by a goroutine of its own, if it is older than nine tenths of an interval: polls at that
// interval do not come to the millisecond. Its methods may be
// called from any goroutine.
type Cached[V any] struct {
	every time.Duration
	make  func() V

	mu     sync.Mutex // guards the fields below
	value  V
	made   bool          // value has been made
	begun  time.Time     // of the newest making; zero before the first
	making chan struct{} // closed when the running making has ended; nil while none runs
}

// NewCached returns a value that make makes. Calls of make never overlap. While one hangs, there is
// no other, and Get returns the older value.
func NewCached[V any](every time.Duration, make func() V) *Cached[V] {
	return &Cached[V]{every: every, make: make}
}

// Get returns the value. It waits for one that is being made until a quarter of a second after the
// making began. Then it returns the older value, or the zero value before the first. Once the making
// has taken an interval longer than that, ok is false: the older value is too old to be sent as new.
func (c *Cached[V]) Get() (value V, ok bool) {
	c.mu.Lock()
	if c.making == nil && (c.begun.IsZero() || time.Since(c.begun) >= c.every/10*9) {
		c.begun, c.making = time.Now(), make(chan struct{})
		go c.run(c.making)
	}
	making, wait := c.making, patience-time.Since(c.begun)
	c.mu.Unlock()
	if making != nil && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-making:
		case <-timer.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.made && (c.making == nil || time.Since(c.begun) <= patience+c.every)
}

func (c *Cached[V]) run(done chan struct{}) {
	value := c.make()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value, c.made, c.making = value, true, nil
	close(done)
}
