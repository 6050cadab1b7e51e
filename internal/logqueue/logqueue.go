// Package logqueue takes what a process writes for people: its log and the lines of its commands.
//
// A write to a Queue never waits and never fails, whatever becomes of the file or pipe below it. A
// pipe that nobody reads would otherwise stop every goroutine that logs, with each lock that it
// holds. Lines that do not fit into the queue, or cannot be written, are dropped and counted. As
// soon as a write works again, one line in their place says how many are missing. Lines that are
// still queued when a crash or a kill ends the process are lost.
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
	// MaxBytes is how many bytes wait for the reader of the log.
	MaxBytes = 1 << 20
	// FlushTimeout bounds how long Flush and Close wait for the reader.
	FlushTimeout = time.Second
	// retryFull is the pause before the next write to a file that is full for now. A file is full
	// for now when another process that has it open made it non-blocking.
	retryFull = 50 * time.Millisecond
)

// A Queue writes to an io.Writer in a goroutine of its own. Its methods may be called from any
// goroutine. New makes one.
type Queue struct {
	w       io.Writer
	missing func(lines int) string
	torn    bool // the last byte that w took is not the end of a line; drain alone uses it
	dropped atomic.Uint64
	wake    chan struct{}
	ended   chan struct{} // closed when nothing writes to w any more

	mu      sync.Mutex
	queue   []byte
	skipped int           // lines that did not fit after the queue; while there are any, none is queued
	busy    bool          // something is being written
	late    bool          // somebody waited in vain for what is being written
	idle    chan struct{} // closed when everything is written; nil if nobody waits
	closed  bool
}

// New starts a queue in front of w. missing returns the line that stands in the place of that many
// lines.
func New(w io.Writer, missing func(lines int) string) *Queue {
	q := &Queue{
		w: w, missing: missing, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	go q.drain()
	return q
}

// Unwrap returns what the queue writes to.
func (q *Queue) Unwrap() io.Writer { return q.w }

// Dropped returns how many lines were dropped so far.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// Write queues a copy of p, which holds whole lines. The error is always nil.
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

// Flush waits until everything that was queued is written, for at most FlushTimeout. After a wait
// in vain, Flush returns at once until something was written again.
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

// Close waits as Flush does. It drops everything that is written later.
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

// drain writes what is queued until the queue is closed.
func (q *Queue) drain() {
	defer close(q.ended)
	var spare []byte
	lost := 0 // dropped lines that no line in the log stands for yet
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

// take waits for something to write. spare becomes the buffer for what is written to the queue
// next.
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

// A putError says how many lines were not written.
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

// say writes the line that stands in the place of others.
func (q *Queue) say(lines int) error {
	line := q.missing(lines)
	if q.torn {
		line = "\n" + line
	}
	return q.put([]byte(line))
}
