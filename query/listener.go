package query

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limitListener serves at most limit connections at once. A connection that comes when all places
// are taken gets the place of the connection that has had no request at work for longest. So a
// client that opens connections and sends nothing, or sends slowly, keeps nobody out. While every
// place has a request at work, the new connection waits.
type limitListener struct {
	net.Listener
	limit   int
	open    prometheus.Gauge
	madeWay func() // called for each connection that gave its place to another

	mu    sync.Mutex // guards what follows
	cond  *sync.Cond // a place has become free, or may be taken
	taken int
	idle  list.List // of *limitConn without a request at work, the longest idle first
	done  bool
}

func newLimitListener(l net.Listener, limit int, open prometheus.Gauge, madeWay func()) *limitListener {
	ll := &limitListener{Listener: l, limit: limit, open: open, madeWay: madeWay}
	ll.cond = sync.NewCond(&ll.mu)
	return ll
}

func (l *limitListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitConn{Conn: conn, listener: l}
	if !l.place(c) {
		_ = conn.Close() // unused
		return nil, net.ErrClosed
	}
	return c, nil
}

// place waits for a place. It returns false when there will be none because the listener was
// closed.
func (l *limitListener) place(c *limitConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.taken >= l.limit && !l.done {
		if longest := l.idle.Front(); longest != nil {
			l.madeWay()
			victim := longest.Value.(*limitConn)
			l.free(victim)
			_ = victim.Conn.Close() // its reader gets an error
			continue
		}
		l.cond.Wait()
	}
	if l.done {
		return false
	}
	l.taken++
	l.open.Inc()
	c.idle = l.idle.PushBack(c)
	return true
}

// free gives the place of a connection back, once. It needs mu.
func (l *limitListener) free(c *limitConn) {
	if c.gone {
		return
	}
	c.gone = true
	if c.idle != nil {
		l.idle.Remove(c.idle)
	}
	l.taken--
	l.open.Dec()
	l.cond.Broadcast()
}

func (l *limitListener) Close() error {
	l.mu.Lock()
	l.done = true
	l.cond.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// limitConn is a connection that has a place.
type limitConn struct {
	net.Conn
	listener *limitListener

	// Guarded by the listener's mu.
	atWork int           // requests, of which HTTP/2 has many at a time
	idle   *list.Element // nil while there are any
	gone   bool
}

func (c *limitConn) Close() error {
	c.listener.mu.Lock()
	c.listener.free(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// begin notes that a request is at work, until end is called.
func (c *limitConn) begin() (end func()) {
	l := c.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.atWork++; c.idle != nil {
		l.idle.Remove(c.idle)
		c.idle = nil
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if c.atWork--; c.atWork == 0 && !c.gone {
			c.idle = l.idle.PushBack(c)
			l.cond.Signal()
		}
	}
}

type connKey struct{}

// withConn lets a request find the connection that it came on.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, conn)
}

// atWork notes that a request is at work on its connection, until end is called.
func atWork(ctx context.Context) (end func()) {
	if c, ok := ctx.Value(connKey{}).(*limitConn); ok {
		return c.begin()
	}
	return func() {} // not served by Start
}
