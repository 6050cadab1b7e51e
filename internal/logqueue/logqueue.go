// Package logqueue takes the text that a process writes for people: its log and the lines of its
// commands.
//
// A write to a Queue never waits and never fails, whatever happens to the file or pipe below it.
// Otherwise a pipe that nobody reads would stop every goroutine that logs, with each lock that the
// goroutine holds. Lines that do not fit into the queue, or cannot be written, are dropped and
// counted. As soon as a write works again, one line in their place says how many lines are missing.
// Lines that are still queued when a crash or a kill ends the process are lost.
package logqueue

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxBytes is how many bytes may wait for the reader of the log.
	MaxBytes = 1 << 20
	// FlushTimeout bounds how long Flush and Close wait for the reader.
	FlushTimeout = time.Second
	// retryFull is the pause before the next write to a file or pipe that is full for now. Such a
	// write fails with EAGAIN if another process with the same open file made it non-blocking.
	retryFull = 50 * time.Millisecond
)

// A Queue writes to an io.Writer in a goroutine of its own. Its methods are safe for concurrent
// use. New makes one.
type Queue struct {
	w       io.Writer
	missing func(lines int) string
	torn    bool // whether the last byte that w took was not a line's end; only drain uses it
	dropped atomic.Uint64
	wake    chan struct{}
	ended   chan struct{} // closed when drain has ended

	mu      sync.Mutex
	queue   []byte
	skipped int           // lines that did not fit; while there are any, no line is queued
	busy    bool          // whether drain is writing
	late    bool          // whether a Flush timed out on the present write
	idle    chan struct{} // closed when everything is written; nil if no Flush waits
	closed  bool
}

// New starts a queue in front of w. missing returns the line that replaces the given number of
// dropped lines.
func New(w io.Writer, missing func(lines int) string) *Queue {
	q := &Queue{
		w: w, missing: missing, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go q.drain()
	return q
}

// Unwrap returns the writer below the queue.
func (q *Queue) Unwrap() io.Writer { return q.w }

// Dropped returns how many lines have been dropped so far.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// Write queues a copy of p, which must hold whole lines. The error is always nil.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := bytes.Count(p, []byte("\n"))
	switch {
	case q.closed:
		q.dropped.Add(uint64(lines))
	case q.skipped > 0 || len(q.queue) > 0 && len(q.queue)+len(p) > MaxBytes:
		q.skipped += lines
		q.dropped.Add(uint64(lines))
	default:
		q.queue = append(q.queue, p...)
		q.signal()
	}
	return len(p), nil
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Flush waits until all queued lines are written, for at most FlushTimeout. After a wait that timed
// out, Flush returns at once until a write has succeeded or failed.
func (q *Queue) Flush() {
	q.mu.Lock()
	if q.late || !q.busy && len(q.queue) == 0 {
		q.mu.Unlock()
		return
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	timeout := time.NewTimer(FlushTimeout)
	defer timeout.Stop()
	select {
	case <-idle:
	case <-timeout.C:
		q.mu.Lock()
		q.late = q.busy
		q.mu.Unlock()
	}
}

// Close waits as Flush does. It drops all lines that are written later.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.signal()
	q.mu.Unlock()
	timeout := time.NewTimer(FlushTimeout)
	defer timeout.Stop()
	select {
	case <-q.ended:
	case <-timeout.C:
	}
}

// drain writes the queued lines until the queue is closed.
func (q *Queue) drain() {
	defer close(q.ended)
	var spare []byte
	lost := 0 // dropped lines that the log does not mention yet
	for {
		batch, skipped, open := q.take(spare[:0])
		if !open {
			return
		}
		if lost > 0 && q.say(lost) == nil {
			lost = 0
		}
		err := q.put(batch)
		if failed, ok := errors.AsType[*putError](err); ok {
			q.dropped.Add(uint64(failed.lines))
			lost += failed.lines
		}
		lost += skipped
		if lost > 0 && err == nil && q.say(lost) == nil {
			lost = 0
		}
		spare = batch
	}
}

// take waits for something to write and returns it. spare becomes the buffer of the next lines that
// are queued. open is false after Close, when no line is queued any more.
func (q *Queue) take(spare []byte) (batch []byte, skipped int, open bool) {
	for {
		q.mu.Lock()
		q.busy, q.late = len(q.queue) > 0, false
		if q.busy {
			batch, q.queue = q.queue, spare
			skipped, q.skipped = q.skipped, 0
			q.mu.Unlock()
			return batch, skipped, true
		}
		if q.idle != nil {
			close(q.idle)
			q.idle = nil
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil, 0, false
		}
		<-q.wake
	}
}

// A putError is a failed write with the number of lines that were not written.
type putError struct {
	error
	lines int
}

// put writes all of p or returns a *putError.
func (q *Queue) put(p []byte) error {
	for {
		n, err := q.w.Write(p)
		if err == nil {
			q.torn = false
			return nil
		}
		if n > 0 {
			q.torn = p[n-1] != '\n'
		}
		p = p[n:]
		if !errors.Is(err, syscall.EAGAIN) {
			return &putError{err, bytes.Count(p, []byte("\n"))}
		}
		time.Sleep(retryFull)
	}
}

// say writes the line that replaces dropped lines.
func (q *Queue) say(lines int) error {
	line := q.missing(lines)
	if q.torn {
		line = "\n" + line
	}
	return q.put([]byte(line))
}
