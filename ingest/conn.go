package ingest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxQueue is how much may wait to be written to one relay. A relay that lets more pile up is
	// stuck.
	maxQueue = 256 << 10
	// pauseQueue is where a session stops reading until some of its answers are written.
	pauseQueue = 32 << 10
	// writeTimeout is how long one write to a relay may take before the relay counts as stuck.
	writeTimeout = 10 * time.Second
	// farewellTimeout bounds the last write to a connection that is being closed.
	farewellTimeout = 2 * time.Second
	// lingerTimeout is how long the other side has to read an error line, and maxLinger how much of
	// what it still sends is read and thrown away meanwhile: closing a connection that has unread
	// input would make the kernel throw the error line away.
	lingerTimeout = time.Second
	maxLinger     = 256 << 10
	// drainPause is how long a connection that is being drained waits for more lines.
	drainPause = 20 * time.Millisecond
	// maxLate is how many lines are still taken from a relay after the time that Stop gives it.
	maxLate = 16
	// keepQueue is how large a queue may be that is kept for the next lines: a get of most relays.
	keepQueue = 512
)

// conn is the sending side of one connection, and its end. Whoever has lines for it never waits for
// the network: what the kernel does not take at once waits in a queue. Its methods may be called
// from any goroutine.
type conn struct {
	// stream is what is spoken on, raw the connection under its TLS; they are the same without TLS.
	// Closing raw ends every blocked call at once.
	stream, raw net.Conn
	// socket writes to stream without waiting; nil when that is not possible.
	socket *socket

	// mu guards what follows. It comes after relay.mu and is held for no call that blocks.
	mu sync.Mutex
	// cond wakes who waits for writing to become false, the queue to get shorter, or ending to be
	// set.
	cond sync.Cond
	// queue waits to be written. writing is whether a goroutine does so: there is one only while
	// the queue holds what the kernel did not take at once, because ten thousand idle stacks are 40
	// MB.
	queue   []byte
	writing bool
	// ending is the reason for the end, "" before. Nothing is queued once it is set. farewell is
	// whether an error line is the last thing in the queue, and dead whether writing is pointless.
	ending         string
	farewell, dead bool
	// drainUntil is set by Stop: only answers that are under way are waited for, until then. late
	// counts the lines that were taken after it.
	drainUntil time.Time
	late       int
	// heard is when the newest line had been dealt with; zero before the first read.
	heard time.Time
}

func newConn(raw net.Conn, config *tls.Config) *conn {
	c := &conn{raw: raw, stream: raw}
	if config != nil {
		c.stream = tls.Server(raw, config)
	}
	c.socket = newSocket(c.stream)
	c.cond.L = &c.mu
	return c
}

func (c *conn) remote() string { return c.raw.RemoteAddr().String() }

// reply queues an answer of the session's own goroutine. When the relay asks faster than it reads,
// reply waits: that slows the relay down instead of filling memory. It returns false when the
// session is to end.
func (c *conn) reply(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.ending == "" && len(c.queue) >= pauseQueue {
		c.cond.Wait()
	}
	if c.ending != "" {
		return false
	}
	c.queue = append(c.queue, line...)
	c.flush()
	return true
}

// enqueue queues lines that the next send writes.
func (c *conn) enqueue(lines []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, lines...)
}

// send sends lines from outside the session's goroutine, and never waits. It returns false when
// the session is ending. When too much is queued, the session ends.
func (c *conn) send(lines []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" {
		return false
	}
	if len(c.queue) > 0 && len(c.queue)+len(lines) > maxQueue {
		c.dead = true
		c.raw.Close() // the writer is blocked; nothing more will get through
		c.endLocked(endStuck)
		return false
	}
	c.queue = append(c.queue, lines...)
	c.flush()
	return true
}

// flush writes what the kernel takes at once, and has a goroutine write the rest. It needs mu.
func (c *conn) flush() {
	if c.writing || c.dead || len(c.queue) == 0 {
		return
	}
	if c.socket != nil {
		n := c.socket.take(c.queue)
		c.queue = c.queue[:copy(c.queue, c.queue[n:])]
	}
	switch {
	case len(c.queue) > 0:
		c.writing = true
		go c.write()
	case cap(c.queue) > keepQueue:
		c.queue = nil
	}
}

// write empties the queue and ends. close waits for it, so that no writer outlives its session.
func (c *conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && !c.dead {
		buf := c.queue
		c.queue = nil
		timeout := writeTimeout
		if c.ending != "" {
			timeout = farewellTimeout
		}
		c.stream.SetWriteDeadline(time.Now().Add(timeout))
		c.mu.Unlock()
		_, err := c.stream.Write(buf)
		c.mu.Lock()
		switch {
		case err != nil:
			c.dead = true
			if c.ending == "" && errors.Is(err, os.ErrDeadlineExceeded) {
				c.ending = endStuck
			} else if c.ending == "" {
				c.ending = endLost
			}
		case c.queue == nil && cap(buf) <= 4<<10:
			c.queue = buf[:0]
		}
		c.cond.Broadcast()
	}
	c.queue = nil
	c.writing = false
	if c.ending != "" {
		c.wakeReader()
	} else {
		// The socket writes without one, and TLS while it reads, when keys are renewed.
		c.stream.SetWriteDeadline(time.Time{})
	}
	c.cond.Broadcast()
}

// end makes the session end for reason once everything queued has been written, and after it the
// error line, if there is one. The first reason wins. It does not wait.
func (c *conn) end(reason, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if line != "" && c.ending == "" {
		c.farewell = true
		c.queue = relaywire.AppendError(c.queue, line)
	}
	c.endLocked(reason)
}

// endLocked needs mu.
func (c *conn) endLocked(reason string) {
	if c.ending != "" {
		return
	}
	c.ending = reason
	// The writer may be in the middle of a write with a longer deadline.
	c.stream.SetWriteDeadline(time.Now().Add(farewellTimeout))
	c.flush()
	if !c.writing {
		c.wakeReader()
	}
	c.cond.Broadcast()
}

// wakeReader ends a blocked read. It needs mu and ending to be set, so that neither arm nor rearm
// can move the deadline again.
func (c *conn) wakeReader() { c.stream.SetReadDeadline(time.Unix(1, 0)) }

// kill ends the session at once, whatever is queued.
func (c *conn) kill(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending == "" {
		c.ending = reason
	}
	c.dead = true
	c.raw.Close()
	c.cond.Broadcast()
}

// arm notes that the last line has been dealt with. It returns false when nothing more is to be
// read, and until when the connection is drained (zero if it is not). The deadline of the read is
// set once and not for every line: when it passes, rearm knows whether there was a line meanwhile.
func (c *conn) arm(silence time.Duration) (drainUntil time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" {
		return c.drainUntil, false
	}
	first := c.heard.IsZero()
	if c.heard = time.Now(); first && c.drainUntil.IsZero() {
		c.stream.SetReadDeadline(c.heard.Add(silence))
	}
	return c.drainUntil, true
}

// rearm is for a read whose deadline has passed. It gives the read what is left of the silence that
// the relay may keep, and returns false when nothing is left, or the session ends.
func (c *conn) rearm(silence time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := c.heard.Add(silence)
	if c.ending != "" || !c.drainUntil.IsZero() || !time.Now().Before(deadline) {
		return false
	}
	c.stream.SetReadDeadline(deadline)
	return true
}

// drain ends the connection as soon as no answer is under way, and at until at the latest.
// awaiting is whether one is under way. While a connection is drained, drain is called for each
// line, and gives the read that is under way, or else the next one, its deadline. It returns false
// when nothing more is to be read.
func (c *conn) drain(until time.Time, awaiting bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != "" || c.late > maxLate {
		return false
	}
	c.drainUntil = until
	now := time.Now()
	if now.After(until) {
		c.late++
	}
	// What has arrived is read even when the time is over: a slow journal may have kept the session
	// from reading it.
	deadline := now.Add(drainPause)
	if awaiting && deadline.Before(until) {
		deadline = until
	}
	c.stream.SetReadDeadline(deadline)
	return true
}

func (c *conn) draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.drainUntil.IsZero()
}

// reason returns why the session ends, "" while it goes on.
func (c *conn) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// close waits for the writer and closes the connection, whose end has a reason already. After an
// error line it first lets the other side read it.
func (c *conn) close() {
	c.mu.Lock()
	for c.writing {
		c.cond.Wait()
	}
	linger := c.farewell && !c.dead
	orderly := !c.dead && c.ending != endLost
	c.mu.Unlock()
	if half, ok := c.stream.(interface{ CloseWrite() error }); ok && orderly {
		half.CloseWrite()
	}
	if linger {
		c.stream.SetReadDeadline(time.Now().Add(lingerTimeout))
		io.CopyN(io.Discard, c.stream, maxLinger)
	}
	c.raw.Close()
}
