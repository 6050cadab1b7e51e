package link

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// pingEvery is how often an end says that it is there. An edge takes the link for dead after
	// edgeIdle of silence, a hub after hubIdle: the edge is the one that dials again.
	pingEvery = time.Second
	edgeIdle  = 3 * time.Second
	hubIdle   = 5 * time.Second
	// writeTimeout bounds one write: the other end reads nothing for so long.
	writeTimeout = 30 * time.Second
	// maxFrame is the size of the largest payload: a batch that is one event, as it is compressed.
	maxFrame = 2 << 20
	// maxHello is the largest payload that a hub takes from somebody who has not given a token yet.
	maxHello = 4 << 10
)

// The types of frames.
const (
	frameGreeting byte = 'G'
	frameHello    byte = 'H'
	frameRefusal  byte = 'R'
	frameWelcome  byte = 'W'
	frameFind     byte = 'F'
	frameFound    byte = 'f'
	frameBegin    byte = 'B'
	frameEvents   byte = 'E'
	frameGap      byte = 'X'
	frameKept     byte = 'K'
	framePing     byte = 'P'
	frameNotice   byte = 'N'
	frameAsk      byte = 'A'
	frameAnswer   byte = 'a'
)

// conn is one end of a connection. One goroutine receives; any may send.
type conn struct {
	net.Conn
	under net.Conn      // the same without TLS
	idle  time.Duration // for how long the other end may be silent (0: until a deadline that was set)
	r     *bufio.Reader
	in    []byte // the payload of the last frame
	max   int    // the largest payload that is taken

	mu  sync.Mutex // guards out, and writing
	out []byte
}

func newConn(c net.Conn, idle time.Duration) *conn {
	n := &conn{Conn: c, under: c, idle: idle, max: maxFrame}
	n.r = bufio.NewReaderSize(n, 64<<10)
	return n
}

// Read reads, and fails when nothing came for the idle time.
func (c *conn) Read(p []byte) (int, error) {
	if c.idle > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// receive returns the next frame. The payload is valid until the next call.
func (c *conn) receive() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if n > int64(c.max) {
		return 0, nil, fmt.Errorf("a frame of %d bytes: it is no Pulse that speaks, or another link than this one", n)
	}
	if int64(cap(c.in)) < n {
		c.in = make([]byte, n)
	}
	c.in = c.in[:n]
	if _, err := io.ReadFull(c.r, c.in); err != nil {
		return 0, nil, err
	}
	return head[0], c.in, nil
}

// send writes a frame.
func (c *conn) send(kind byte, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out[:0], kind)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(payload)))
	c.out = append(c.out, payload...)
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := c.Write(c.out)
	if cap(c.out) > 1<<20 {
		c.out = nil
	}
	return err
}

// sendJSON writes a frame whose payload is v.
func (c *conn) sendJSON(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.send(kind, payload)
}

// expect receives a frame of the kind into v.
func (c *conn) expect(kind byte, v any) error {
	got, payload, err := c.receive()
	if err != nil {
		return err
	}
	if got == frameRefusal && kind != frameRefusal {
		var r refusal
		if err := json.Unmarshal(payload, &r); err != nil {
			return err
		}
		return &refusedError{r}
	}
	if got != kind {
		return fmt.Errorf("a frame of type %q instead of %q: is it the hub's --hub-listen-address?", got, kind)
	}
	return json.Unmarshal(payload, v)
}

// why is err for people: what an end of a connection means.
func why(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the other end closed the connection; its log says why"
	case errors.Is(err, net.ErrClosed):
		return "the connection was closed"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "nothing was heard for some seconds"
	}
	return err.Error()
}
