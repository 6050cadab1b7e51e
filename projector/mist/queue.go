package mist

import (
	"sync"

	"github.com/nanopack/pulse/projector/internal/ring"
)

// queue holds the messages that wait for the writer. When it is full it drops its oldest. Its
// methods may be called from any goroutine.
type queue struct {
	wake chan struct{} // gets a value when messages came

	mu       sync.Mutex // guards what follows; never held for longer than a copy
	messages ring.Ring[message]
	closed   bool
}

func newQueue(max int) *queue {
	return &queue{messages: ring.Ring[message]{Max: max}, wake: make(chan struct{}, 1)}
}

// push appends messages and counts the oldest that were dropped for them. A closed queue takes
// none.
func (q *queue) push(messages []message) (dropped int, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, false
	}
	for i := range messages {
		if q.messages.Full() {
			q.messages.Drop()
			dropped++
		}
		q.messages.Push(messages[i])
	}
	select {
	case q.wake <- struct{}{}:
	default: // one is waiting already
	}
	return dropped, true
}

// putBack puts messages that pop gave, and that were not sent, before all others. If others took
// their room, the oldest of the messages are dropped and counted.
func (q *queue) putBack(messages []message) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(messages)
	for ; n > 0 && !q.messages.Full(); n-- {
		q.messages.PutBack(messages[n-1])
	}
	return n
}

// pop fills dst with the oldest messages that are not older than since. It counts the older ones,
// which are dropped.
func (q *queue) pop(dst []message, since int64) (n, old int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n < len(dst) && q.messages.Len() > 0 {
		m := *q.messages.At(q.messages.First())
		q.messages.Drop()
		if m.time < since {
			old++
			continue
		}
		dst[n] = m
		n++
	}
	return n, old
}

// expire drops the messages at the head that are older than since, and counts them.
func (q *queue) expire(since int64) (old int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.messages.Len() > 0 && q.messages.At(q.messages.First()).time < since {
		q.messages.Drop()
		old++
	}
	return old
}

// close empties the queue for good and counts what was in it.
func (q *queue) close() (left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left = q.messages.Len()
	q.messages.Reset()
	q.closed = true
	return left
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.messages.Len()
}
