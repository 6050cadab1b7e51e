package live

import "sync"

// queue holds the messages that wait for the writer: a ring that grows up to max and then drops its oldest.
type queue struct {
	max  int
	wake chan struct{} // gets a value when messages came

	mu     sync.Mutex // guards what follows; never held for longer than a copy
	ring   []message
	head   int // of the oldest
	n      int
	closed bool
}

func newQueue(max int) *queue { return &queue{max: max, wake: make(chan struct{}, 1)} }

// push appends messages and counts the oldest that had to go for them. A closed queue takes none.
func (q *queue) push(messages []message) (dropped int, open bool) {
	if len(messages) == 0 {
		return 0, true
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return 0, false
	}
	if over := len(messages) - q.max; over > 0 {
		dropped, messages = over, messages[over:]
	}
	q.reserve(len(messages))
	if over := q.n + len(messages) - len(q.ring); over > 0 {
		q.skip(over)
		dropped += over
	}
	tail := (q.head + q.n) % len(q.ring)
	first := copy(q.ring[tail:], messages)
	copy(q.ring, messages[first:])
	q.n += len(messages)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // one is waiting already
	}
	return dropped, true
}

// putBack puts messages that pop gave, and that were not sent, before all others. If others took their
// place, the oldest of them are dropped and counted.
func (q *queue) putBack(messages []message) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserve(len(messages))
	if over := q.n + len(messages) - len(q.ring); over > 0 {
		dropped, messages = over, messages[over:]
	}
	if len(messages) == 0 {
		return dropped
	}
	q.head = (q.head - len(messages) + len(q.ring)) % len(q.ring)
	first := copy(q.ring[q.head:], messages)
	copy(q.ring, messages[first:])
	q.n += len(messages)
	return dropped
}

// pop fills dst with the oldest messages that are not older than since. It counts those that it passed over.
func (q *queue) pop(dst []message, since int64) (n, old int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n < len(dst) && q.n > 0 {
		m := q.ring[q.head]
		q.skip(1)
		if m.time < since {
			old++
			continue
		}
		dst[n] = m
		n++
	}
	return n, old
}

// expire drops the messages at the head that are older than since.
func (q *queue) expire(since int64) (old int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.n > 0 && q.ring[q.head].time < since {
		q.skip(1)
		old++
	}
	return old
}

// close empties the queue for good and counts what was in it.
func (q *queue) close() (left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left = q.n
	q.ring, q.head, q.n, q.closed = nil, 0, 0, true
	return left
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

// skip removes the n oldest, and lets go of their strings.
func (q *queue) skip(n int) {
	for range n {
		q.ring[q.head] = message{}
		if q.head++; q.head == len(q.ring) {
			q.head = 0
		}
	}
	q.n -= n
}

// reserve makes room for more, as far as max allows.
func (q *queue) reserve(more int) {
	const least = 256
	need := min(q.n+more, q.max)
	if need <= len(q.ring) {
		return
	}
	ring := make([]message, min(max(need, 2*len(q.ring), least), q.max))
	first := copy(ring[:q.n], q.ring[q.head:])
	copy(ring[first:q.n], q.ring)
	q.ring, q.head = ring, 0
}
