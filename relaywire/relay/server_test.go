package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/relaywire/relay"
)

func TestMain(m *testing.M) {
	if os.Getenv(killAddress) != "" {
		fmt.Fprintln(os.Stderr, spoolProcess())
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const patience = time.Minute

// server is the other side of the connection. It only accepts connections; the test decides what
// the server sends.
type server struct {
	t     *testing.T
	addr  string
	peers chan *peer
}

// listen accepts on addr ("" = any port) until the test ends or stop is called.
func listen(t *testing.T, addr string) (s *server, stop func()) {
	t.Helper()
	if addr == "" {
		addr = freeport.Of(t)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s = &server{t: t, addr: ln.Addr().String(), peers: make(chan *peer, 100)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.peers <- newPeer(t, conn)
		}
	})
	stop = sync.OnceFunc(func() { ln.Close(); wg.Wait() })
	t.Cleanup(stop)
	return s, stop
}

// pipes is a server without a network, for tests whose clock is synctest's. Use its dial as
// Options.Dial.
func pipes(t *testing.T) *server {
	return &server{t: t, addr: "pipe", peers: make(chan *peer, 100)}
}

func (s *server) dial(context.Context, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.peers <- newPeer(s.t, theirs)
	return ours, nil
}

// accept returns the next connection after the relay has identified itself as web1 and the server
// has welcomed it.
func (s *server) accept() *peer {
	s.t.Helper()
	p := s.next()
	p.expect("id web1")
	p.say("ok", "beat 30")
	return p
}

func (s *server) next() *peer {
	s.t.Helper()
	select {
	case p := <-s.peers:
		return p
	case <-time.After(patience):
		s.t.Fatal("the relay does not connect")
		return nil
	}
}

// peer is one connection seen from the server. It reads and keeps all lines of the relay at once.
type peer struct {
	t     *testing.T
	conn  net.Conn
	lines chan string // closed at the connection's end
	alive atomic.Bool // answer pings instead of keeping them
}

func newPeer(t *testing.T, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn, lines: make(chan string, 10_000)}
	go func() {
		defer close(p.lines)
		in := bufio.NewScanner(conn)
		in.Buffer(nil, 1<<20)
		in.Split(wholeLines)
		for in.Scan() {
			if p.alive.Load() && in.Text() == "ping" {
				fmt.Fprintln(conn, "pong")
				continue
			}
			p.lines <- in.Text()
		}
		conn.Close() // as every server does at the end of the input
	}()
	t.Cleanup(func() { conn.Close() })
	return p
}

// wholeLines splits as bufio.ScanLines does, but a line that the connection's end cut off is none.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if atEOF && bytes.IndexByte(data, '\n') < 0 {
		return len(data), nil, nil
	}
	return bufio.ScanLines(data, atEOF)
}

func (p *peer) say(lines ...string) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprint(p.conn, strings.Join(lines, "\n")+"\n"); err != nil {
		p.t.Errorf("saying %q: %v", lines, err)
	}
	p.conn.SetWriteDeadline(time.Time{})
}

// line returns the relay's next line; ok is false when the relay closed the connection.
func (p *peer) line() (line string, ok bool) {
	p.t.Helper()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-time.After(patience):
		p.t.Fatal("the relay says nothing")
		return "", false
	}
}

func (p *peer) expect(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		if line, ok := p.line(); line != want {
			p.t.Fatalf("the relay said %q (%v), want %q", line, ok, want)
		}
	}
}

func (p *peer) expectHangUp() {
	p.t.Helper()
	if line, ok := p.line(); ok {
		p.t.Fatalf("the relay said %q, want it to hang up", line)
	}
}

func (p *peer) hangUp() { p.conn.Close() }

// poll sends a get and returns the readings of the answer.
func (p *peer) poll(names string) string {
	p.t.Helper()
	p.say("get " + names)
	line, _ := p.line()
	got, ok := strings.CutPrefix(line, "got")
	if !ok {
		p.t.Fatalf("the relay answered %q to get %s", line, names)
	}
	return strings.TrimPrefix(got, " ")
}

// start makes a relay that is closed when the test ends.
func start(t *testing.T, o relay.Options) *relay.Relay {
	t.Helper()
	if o.ID == "" {
		o.ID = "web1"
	}
	r, err := relay.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func wait(t *testing.T, r *relay.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, r *relay.Relay, name string, c relay.Collector, tags ...string) {
	t.Helper()
	if err := r.AddCollector(name, tags, c); err != nil {
		t.Fatal(err)
	}
}

func point(v float64) relay.Collector { return relay.NewPointCollector(func() float64 { return v }) }

func info(t *testing.T, r *relay.Relay, name string) relay.Info {
	t.Helper()
	for _, i := range r.Info() {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("no collector %s", name)
	return relay.Info{}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
