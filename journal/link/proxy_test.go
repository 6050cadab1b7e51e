package link

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between an edge and a hub, and can be cut, or swallow everything.
type proxy struct {
	tb    testing.TB
	l     net.Listener
	to    string
	wg    sync.WaitGroup
	mu    sync.Mutex // guards the fields below
	conns map[net.Conn]bool
	cut   bool
	hole  chan struct{} // closed when bytes pass again; nil: they pass
}

func newProxy(tb testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{tb: tb, l: l, to: to, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		p.fill()
		_ = l.Close()
		p.cutAll(true)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil || !p.keep(in, out) {
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		p.wg.Go(func() { p.copy(in, out) })
		p.wg.Go(func() { p.copy(out, in) })
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.cut
}

// copy passes bytes on, a few at a time, so that a cut is in the middle of something.
func (p *proxy) copy(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
	}()
	b := make([]byte, 1500)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		if hole != nil {
			<-hole
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cutAll resets the connections there are, and lets others in only if it is not to stay so.
func (p *proxy) cutAll(stay bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = stay
	for c := range p.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(p.conns)
}

// dig keeps back everything from now on, until fill.
func (p *proxy) dig() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = make(chan struct{})
}

func (p *proxy) fill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole != nil {
		close(p.hole)
		p.hole = nil
	}
}
