// Package misttest holds a double of mist for tests: it speaks the lines that mist speaks, keeps
// what is published, and can be made to misbehave, connection by connection.
package misttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// Message is a line of mist's protocol.
type Message struct {
	Command string   `json:"command"`
	Tags    []string `json:"tags"`
	Data    string   `json:"data"`
}

// Script is what mist does with a connection; when it returns the connection is closed.
type Script func(c *Conn)

// Honest serves until the other side leaves.
func Honest(c *Conn) { _ = c.Serve(-1) }

// Mist is the double. It may be used from any goroutine.
type Mist struct {
	tb     testing.TB
	token  string
	done   chan struct{}
	listen net.Listener // nil for Pipe
	wg     sync.WaitGroup

	mu        sync.Mutex // guards what follows
	script    Script
	refuse    bool
	closed    bool
	conns     map[*Conn]struct{}
	accepted  int
	commands  []string
	published []Message
	changed   chan struct{} // closed when something of this changes
}

// Listen returns a mist on a TCP port of its own. It wants the token, unless that is "". It ends
// with the test.
func Listen(tb testing.TB, token string) *Mist {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	m := Pipe(tb, token)
	m.listen = l
	m.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.serve(conn)
		}
	})
	return m
}

// Pipe returns a mist in memory, to be reached through Dial: for synctest bubbles, where it must be
// made inside.
func Pipe(tb testing.TB, token string) *Mist {
	m := &Mist{tb: tb, token: token, script: Honest, done: make(chan struct{}), changed: make(chan struct{}), conns: make(map[*Conn]struct{})}
	tb.Cleanup(m.Close)
	return m
}

// Addr is the address of a mist that listens.
func (m *Mist) Addr() string { return m.listen.Addr().String() }

// Dial connects to a mist in memory, whatever the address.
func (m *Mist) Dial(ctx context.Context, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	refuse := m.refuse || m.closed
	m.mu.Unlock()
	if refuse {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	m.serve(ours)
	return theirs, nil
}

func (m *Mist) serve(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.refuse {
		_ = conn.Close()
		return
	}
	m.accepted++
	c := &Conn{Conn: conn, N: m.accepted, m: m, in: bufio.NewReader(conn), authenticated: m.token == ""}
	m.conns[c] = struct{}{}
	m.wake()
	script := m.script
	m.wg.Go(func() {
		defer func() {
			_ = conn.Close()
			m.mu.Lock()
			delete(m.conns, c)
			m.mu.Unlock()
		}()
		script(c)
	})
}

// Script says what happens to the connections that come from now on (at first: Honest).
func (m *Mist) Script(s Script) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = s
}

// Refuse refuses connections from now on, or no longer.
func (m *Mist) Refuse(refuse bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = refuse
}

// Kick closes all connections.
func (m *Mist) Kick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		_ = c.Conn.Close()
	}
}

// Close ends everything. It may be called again.
func (m *Mist) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.done)
	}
	m.mu.Unlock()
	if m.listen != nil {
		_ = m.listen.Close()
	}
	m.Kick()
	m.wg.Wait()
}

// Accepted counts the connections that there were.
func (m *Mist) Accepted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accepted
}

// Commands returns the commands that were read, in their order, each publish but the first of a row
// left out.
func (m *Mist) Commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.commands...)
}

// Published returns what was published, in the order of reading.
func (m *Mist) Published() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Message(nil), m.published...)
}

// WaitPublished waits until n messages were published, and returns them.
func (m *Mist) WaitPublished(n int) []Message {
	m.tb.Helper()
	m.wait(fmt.Sprintf("%d messages", n), func() bool { return len(m.published) >= n })
	return m.Published()
}

// WaitAccepted waits until there were n connections.
func (m *Mist) WaitAccepted(n int) {
	m.tb.Helper()
	m.wait(fmt.Sprintf("%d connections", n), func() bool { return m.accepted >= n })
}

func (m *Mist) wait(what string, enough func() bool) {
	m.tb.Helper()
	deadline := time.After(time.Minute)
	for {
		m.mu.Lock()
		ok, changed := enough(), m.changed
		accepted, published := m.accepted, len(m.published)
		m.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			m.tb.Fatalf("mist waited for %s in vain; it had %d connections and %d messages", what, accepted, published)
		}
	}
}

// wake tells waiters that something has changed, under the lock.
func (m *Mist) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Conn is a connection as mist sees it.
type Conn struct {
	net.Conn
	// N numbers the connections, from 1.
	N int

	m             *Mist
	in            *bufio.Reader
	authenticated bool
}

// Next reads a line. A line that is no JSON object of the known fields fails the test; the end of
// the connection, or a line that it cuts, is an error.
func (c *Conn) Next() (Message, error) {
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		return Message{}, err
	}
	var msg Message
	if err := json.Unmarshal(line, &msg); err != nil {
		c.m.tb.Errorf("mist cannot read %q: %v", line, err)
		return Message{}, err
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if n := len(c.m.commands); msg.Command != "publish" || n == 0 || c.m.commands[n-1] != "publish" {
		c.m.commands = append(c.m.commands, msg.Command)
	}
	return msg, nil
}

// Serve does what mist does with the next n messages (-1: all). It returns an error when the
// connection ends or is not allowed to go on.
func (c *Conn) Serve(n int) error {
	for i := 0; i != n; i++ {
		msg, err := c.Next()
		if err != nil {
			return err
		}
		switch {
		case msg.Command == "auth":
			c.authenticated = c.m.token == "" || msg.Data == c.m.token
		case !c.authenticated:
			return errors.New("not authenticated")
		case msg.Command == "ping":
			err = c.Pong()
		case msg.Command == "publish":
			c.m.mu.Lock()
			c.m.published = append(c.m.published, msg)
			c.m.wake()
			c.m.mu.Unlock()
		}
		if err != nil || !c.authenticated {
			return errors.Join(err, errors.New("the token is wrong"))
		}
	}
	return nil
}

// Pong answers a ping.
func (c *Conn) Pong() error {
	_, err := c.Write([]byte(`{"command":"ping","tags":[],"data":"pong"}` + "\n"))
	return err
}

// Stall does nothing, until the test is over.
func (c *Conn) Stall() { <-c.m.done }
