package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
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
	// floodBytes is what mist may send between two pings, besides four times what it got: it answers what
	// it does not like with the message and a reason.
	floodBytes = 1 << 20
)

// link is one connection to mist. It belongs to the goroutine that runs, but for read, which is a goroutine of its own.
type link struct {
	m      *Mist
	conn   net.Conn
	unhook func() bool // undoes the closing of conn when the time is up

	want   uint64        // the number of pongs that answers the last ping
	pongs  atomic.Uint64 // so many came
	ponged chan struct{} // gets a value when one came
	budget atomic.Int64  // bytes that mist may send

	readDone chan struct{} // closed when read has ended, after readErr was set
	readErr  error
}

// connect dials mist, says the token and waits for the answer to a ping: a mist that does not like the token
// closes the connection instead. It gives up when hard ends, or when soft ends and nothing is queued.
func (m *Mist) connect(soft, hard context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(hard, connectTimeout)
	defer cancel()
	defer context.AfterFunc(soft, func() {
		if m.queue.len() == 0 {
			cancel()
		}
	})()
	conn, err := m.o.Dial(ctx, m.o.Address)
	if err != nil {
		return nil, m.fail("dial", err)
	}
	l := &link{m: m, conn: conn, ponged: make(chan struct{}, 1), readDone: make(chan struct{})}
	l.unhook = context.AfterFunc(hard, func() { _ = conn.Close() })
	l.budget.Store(floodBytes)
	go l.read()
	if err := l.greet(ctx); err != nil {
		l.close(err)
		return nil, m.fail("greet", err)
	}
	return l, nil
}

// greet says the token and pings.
func (l *link) greet(ctx context.Context) error {
	var hello []byte
	if l.m.o.Token != "" {
		hello = authLine(l.m.o.Token)
	}
	l.want = 1
	if _, err := l.write(append(hello, pingLine...)); err != nil {
		return l.cause(err)
	}
	err := l.answer(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w within %v", ErrNoAnswer, connectTimeout)
	}
	return err
}

// serve publishes what is queued until the connection is lost or soft ends. Then it sends the rest, and waits for mist to
// have read it.
func (l *link) serve(soft context.Context) (err error) {
	defer func() { l.close(err) }()
	every := max(min(l.m.o.MaxAge/2, maxPing), minPing)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	beat := func() error {
		if l.pongs.Load() < l.want {
			return l.m.fail("ping", fmt.Errorf("%w within %v", ErrNoAnswer, every))
		}
		return l.ping()
	}
	for {
		select {
		case <-l.readDone:
			return l.m.fail("read", l.readErr)
		case <-ticker.C:
			if err := beat(); err != nil {
				return err
			}
		default:
		}
		if n, err := l.writeBatch(); err != nil {
			return l.m.fail("write", l.cause(err))
		} else if n > 0 {
			continue
		}
		select {
		case <-l.m.queue.wake:
		case <-l.readDone:
		case <-ticker.C:
			if err := beat(); err != nil {
				return err
			}
		case <-soft.Done():
			if err := l.ping(); err != nil {
				return err
			}
			if err := l.answer(context.Background()); err != nil { // ends with the connection, within the second
				return l.m.fail("ping", err)
			}
			return nil
		}
	}
}

// writeBatch writes what is queued, as far as one write goes. What was not written, up to the line that was cut,
// goes back into the queue. n counts what was taken from it.
func (l *link) writeBatch() (n int, err error) {
	m := l.m
	n, old := m.queue.pop(m.batch, m.oldest())
	m.drop(m.metrics.old, old)
	messages := m.batch[:n]
	for len(messages) > 0 && err == nil {
		m.buf = m.buf[:0]
		encoded := 0
		for encoded < len(messages) && len(m.buf) < batchBytes {
			m.buf = appendRounded(m.buf, &messages[encoded], m.o.Decimals)
			encoded++
		}
		var written int
		written, err = l.write(m.buf)
		if err != nil {
			encoded = bytes.Count(m.buf[:written], newline) // a line that was cut is none to mist
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

var newline = []byte{'\n'}

// ping pings.
func (l *link) ping() error {
	if l.budget.Load() < floodBytes { // what read takes off meanwhile is forgiven
		l.budget.Store(floodBytes)
	}
	l.want = l.pongs.Load() + 1
	if _, err := l.write([]byte(pingLine)); err != nil {
		return l.m.fail("write", l.cause(err))
	}
	return nil
}

func (l *link) write(b []byte) (int, error) {
	l.budget.Add(4 * int64(len(b)))
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return l.conn.Write(b)
}

// answer waits for the answer to the last ping.
func (l *link) answer(ctx context.Context) error {
	for l.pongs.Load() < l.want {
		select {
		case <-l.ponged:
		case <-l.readDone:
			return l.readErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// read discards what mist sends, looking for pongs, until the connection ends.
func (l *link) read() {
	defer close(l.readDone)
	buf := make([]byte, 4<<10)
	for seen := 0; ; {
		n, err := l.conn.Read(buf)
		for _, b := range buf[:n] {
			switch {
			case b == pong[seen]:
				seen++
			case b == pong[0]:
				seen = 1
			default:
				seen = 0
			}
			if seen == len(pong) {
				seen = 0
				l.pongs.Add(1)
				select {
				case l.ponged <- struct{}{}:
				default:
				}
			}
		}
		if l.budget.Add(-int64(n)) < 0 {
			l.readErr = ErrFlood
			return
		}
		if err != nil {
			l.readErr = lost(err)
			return
		}
	}
}

// cause tells why a write failed: what the reader saw is closer to it than "broken pipe".
func (l *link) cause(err error) error {
	select {
	case <-l.readDone:
		return l.readErr
	default:
		return lost(err)
	}
}

// lost gives the ways in which the other side ends a connection one name. A mist that closes without having
// read everything resets it.
func lost(err error) error {
	if err == io.EOF {
		return ErrClosed
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// close ends the connection and waits for the reader. After a failure, what lies in the kernel's buffers is
// thrown away: it must not reach a mist that comes to its senses minutes later.
func (l *link) close(err error) {
	if c, ok := l.conn.(interface{ SetLinger(seconds int) error }); ok && err != nil {
		_ = c.SetLinger(0) // best effort: closing follows
	}
	_ = l.conn.Close()
	l.unhook()
	<-l.readDone
}

// fail makes a MistError.
func (m *Mist) fail(op string, err error) error {
	return &MistError{Op: op, Addr: m.o.Address, Err: err}
}
