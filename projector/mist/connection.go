package mist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

const (
	// batchMessages and batchBytes bound one write.
	batchMessages = 512
	batchBytes    = 64 << 10
	// maxBuffer is what is kept of a buffer that one huge message has grown.
	maxBuffer = 1 << 20
	// writeTimeout is how long mist may leave a write waiting.
	writeTimeout = 5 * time.Second
	// maxPing and minPing are the longest and the shortest time between two pings.
	maxPing = 15 * time.Second
	minPing = 100 * time.Millisecond
	// floodBytes is what mist may send between two pings, besides four times what it got: mist
	// answers a line that it does not like with the line and a reason.
	floodBytes = 1 << 20
)

// connection is one connection to mist. It belongs to the loop's goroutine, but for read, which is
// a goroutine of its own.
type connection struct {
	m      *Sink
	conn   net.Conn
	unhook func() bool // undoes the closing of conn when a stop may not take longer

	want   uint64        // the number of pongs that answers the last ping
	pongs  atomic.Uint64 // so many came
	ponged chan struct{} // gets a value when one came
	budget atomic.Int64  // bytes that mist may send

	readDone chan struct{} // closed when read has ended, after readErr was set
	readErr  error
}

// connect dials mist, says the token and waits for the answer to a ping: a mist that does not like
// the token closes the connection instead. A stop ends the attempt when nothing is queued.
func (m *Sink) connect() (*connection, error) {
	ctx, cancel := context.WithTimeout(m.limit, connectTimeout)
	defer cancel()
	defer context.AfterFunc(m.stopping, func() {
		if m.queue.len() == 0 {
			cancel()
		}
	})()
	conn, err := m.o.Dial(ctx, m.o.Address)
	if err != nil {
		return nil, m.fail("dial", err)
	}
	c := &connection{m: m, conn: conn, ponged: make(chan struct{}, 1), readDone: make(chan struct{})}
	c.unhook = context.AfterFunc(m.limit, func() { _ = conn.Close() })
	c.budget.Store(floodBytes)
	go c.read()
	if err := c.greet(ctx); err != nil {
		c.close(err)
		return nil, m.fail("greet", err)
	}
	return c, nil
}

// greet says the token and pings.
func (c *connection) greet(ctx context.Context) error {
	var hello []byte
	if c.m.o.Token != "" {
		hello = authLine(c.m.o.Token)
	}
	c.want = 1
	if _, err := c.write(append(hello, pingLine...)); err != nil {
		return c.cause(err)
	}
	err := c.answer(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w within %v", ErrNoAnswer, connectTimeout)
	}
	return err
}

// serve publishes what is queued until the connection is lost or a stop begins. Then it sends the
// rest, and waits for mist to have read it.
func (c *connection) serve() error {
	every := max(min(c.m.o.MaxAge/2, maxPing), minPing)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	more := make(chan struct{})
	close(more)
	for {
		n, err := c.writeBatch()
		if err != nil {
			return c.m.fail("write", c.cause(err))
		}
		wake, stopping := (<-chan struct{})(c.m.queue.wake), c.m.stopping.Done()
		if n > 0 {
			wake, stopping = more, nil // perhaps there is more to write
		}
		select {
		case <-wake:
		case <-c.readDone:
			return c.m.fail("read", c.readErr)
		case <-ticker.C:
			if c.pongs.Load() < c.want {
				return c.m.fail("ping", fmt.Errorf("%w within %v", ErrNoAnswer, every))
			}
			if err := c.ping(); err != nil {
				return err
			}
		case <-stopping:
			if err := c.ping(); err != nil {
				return err
			}
			if err := c.answer(c.m.limit); err != nil {
				return c.m.fail("ping", err)
			}
			return nil
		}
	}
}

// writeBatch writes what is queued, as far as one write goes. What was not written, from the line
// on that was cut, goes back into the queue. n counts what was taken from it.
func (c *connection) writeBatch() (n int, err error) {
	m := c.m
	n, old := m.queue.pop(m.batch, m.oldest())
	m.drop(m.metrics.old, old)
	messages := m.batch[:n]
	for len(messages) > 0 && err == nil {
		m.buf = m.buf[:0]
		encoded := 0
		for encoded < len(messages) && len(m.buf) < batchBytes {
			m.buf = appendMessage(m.buf, &messages[encoded], m.o.Decimals)
			encoded++
		}
		var written int
		written, err = c.write(m.buf)
		if err != nil {
			encoded = bytes.Count(m.buf[:written], []byte{'\n'}) // mist ignores a line that was cut
		}
		m.metrics.published.Add(float64(encoded))
		m.published.Add(uint64(encoded))
		messages = messages[encoded:]
		if cap(m.buf) > maxBuffer {
			m.buf = make([]byte, 0, batchBytes)
		}
	}
	if len(messages) > 0 {
		m.drop(m.metrics.full, m.queue.putBack(messages))
	}
	clear(m.batch[:n])
	return n, err
}

// ping pings.
func (c *connection) ping() error {
	if c.budget.Load() < floodBytes { // what read takes off at this moment is forgiven
		c.budget.Store(floodBytes)
	}
	c.want = c.pongs.Load() + 1
	if _, err := c.write([]byte(pingLine)); err != nil {
		return c.m.fail("write", c.cause(err))
	}
	return nil
}

func (c *connection) write(b []byte) (int, error) {
	c.budget.Add(4 * int64(len(b)))
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.conn.Write(b)
}

// answer waits for the answer to the last ping.
func (c *connection) answer(ctx context.Context) error {
	for c.pongs.Load() < c.want {
		select {
		case <-c.ponged:
		case <-c.readDone:
			return c.readErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// read discards what mist sends, except for pongs, until the connection ends.
func (c *connection) read() {
	defer close(c.readDone)
	buf := make([]byte, 4<<10)
	for seen := 0; ; {
		n, err := c.conn.Read(buf)
		for _, b := range buf[:n] {
			switch b {
			case pong[seen]:
				seen++
			case pong[0]:
				seen = 1
			default:
				seen = 0
			}
			if seen == len(pong) {
				seen = 0
				c.pongs.Add(1)
				select {
				case c.ponged <- struct{}{}:
				default:
				}
			}
		}
		if c.budget.Add(-int64(n)) < 0 {
			c.readErr = ErrFlood
			return
		}
		if err != nil {
			c.readErr = lost(err)
			return
		}
	}
}

// cause returns why a write failed: what read saw is closer to the cause than "broken pipe".
func (c *connection) cause(err error) error {
	select {
	case <-c.readDone:
		return c.readErr
	default:
		return lost(err)
	}
}

// close ends the connection and waits for read. After a failure it throws away what lies in the
// kernel's buffers, which must not reach a mist that goes on reading minutes later.
func (c *connection) close(err error) {
	if conn, ok := c.conn.(interface{ SetLinger(seconds int) error }); ok && err != nil {
		_ = conn.SetLinger(0) // best effort: closing follows
	}
	_ = c.conn.Close()
	c.unhook()
	<-c.readDone
}

// fail makes an Error.
func (m *Sink) fail(op string, err error) error {
	return &Error{Op: op, Addr: m.o.Address, Err: err}
}
