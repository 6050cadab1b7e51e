package query

import (
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limitListener accepts at most cap(taken) connections at once; further ones wait in the kernel's queue.
type limitListener struct {
	net.Listener
	open  prometheus.Gauge
	taken chan struct{}
	done  chan struct{}
	close func() error // once
}

func newLimitListener(l net.Listener, limit int, open prometheus.Gauge) *limitListener {
	ll := &limitListener{Listener: l, open: open, taken: make(chan struct{}, limit), done: make(chan struct{})}
	ll.close = sync.OnceValue(func() error {
		close(ll.done)
		return l.Close()
	})
	return ll
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.taken <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.taken
		return nil, err
	}
	l.open.Inc()
	return &limitConn{Conn: c, release: sync.OnceFunc(func() {
		l.open.Dec()
		<-l.taken
	})}, nil
}

func (l *limitListener) Close() error { return l.close() }

type limitConn struct {
	net.Conn
	release func()
}

func (c *limitConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
