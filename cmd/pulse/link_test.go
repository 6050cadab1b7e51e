package main

import (
	"net"
	"sync"
	"testing"
)

// A cable is a link between two processes: it forwards connections to an address, as long as it is not cut.
type cable struct {
	listener net.Listener
	to       string
	work     sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	down  bool       // connections are ended at once
	hole  chan struct{}
	conns map[net.Conn]struct{}
}

func newLink(t *testing.T, to string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &cable{listener: listener, to: to, hole: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	close(l.hole)
	l.work.Go(l.accept)
	t.Cleanup(func() {
		listener.Close()
		l.fill()
		l.cut()
		l.work.Wait()
	})
	return l
}

func (l *cable) address() string { return l.listener.Addr().String() }

func (l *cable) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			near.Close()
			continue
		}
		l.mu.Lock()
		if l.down {
			near.Close()
			far.Close()
		} else {
			l.conns[near], l.conns[far] = struct{}{}, struct{}{}
			l.work.Go(func() { l.forward(near, far) })
			l.work.Go(func() { l.forward(far, near) })
		}
		l.mu.Unlock()
	}
}

func (l *cable) forward(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		hole := l.hole
		l.mu.Unlock()
		<-hole
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			break
		}
	}
	from.Close()
	to.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, from)
	delete(l.conns, to)
}

// cut resets all connections, and new ones until mend.
func (l *cable) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (l *cable) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// dig makes the link a black hole until fill.
func (l *cable) dig() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hole = make(chan struct{})
}

func (l *cable) fill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.hole:
	default:
		close(l.hole)
	}
}
