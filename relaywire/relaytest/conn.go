// Package relaytest plays relays for tests and benchmarks of whatever listens to them.
//
// [Conn] is one relay under the test's control, line by line: it can be honest, odd or hostile. It
// does nothing by itself (it neither answers nor pings) and fails the test when the server does not
// say what was expected within its timeout. [Fleet] is any number of honest relays in one process,
// as cheap as they can be made: one goroutine each, no memory per reading, values that a test can
// predict, counters for what was sent. A Fleet needs no test, so that benchmarks and commands can
// use it.
//
// Promise: both close what they opened, a Conn in the test's cleanup, a Fleet in Stop, and leave no
// goroutine behind.
package relaytest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// Timeout is how long a Conn waits for the server before it fails the test.
const Timeout = time.Minute

// Conn is one scripted relay. It belongs to the test's goroutine. Every method that cannot do what
// it says fails the test.
type Conn struct {
	tb      testing.TB
	conn    net.Conn
	lines   *relaywire.Reader
	timeout time.Duration
}

// Dial connects to addr without saying anything. The connection is closed when the test ends.
func Dial(tb testing.TB, addr string) *Conn {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		tb.Fatalf("relaytest: %v", err)
	}
	return newConn(tb, conn)
}

// DialTLS is Dial over TLS; the handshake is done when it returns.
func DialTLS(tb testing.TB, addr string, config *tls.Config) *Conn {
	tb.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: Timeout}, "tcp", addr, config)
	if err != nil {
		tb.Fatalf("relaytest: %v", err)
	}
	return newConn(tb, conn)
}

// Connect dials and identifies: it returns when the server has said ok and beat. A token is
// optional.
func Connect(tb testing.TB, addr, id string, token ...string) *Conn {
	tb.Helper()
	c := Dial(tb, addr)
	c.Identify(id, token...)
	return c
}

func newConn(tb testing.TB, conn net.Conn) *Conn {
	tb.Cleanup(func() { _ = conn.Close() })
	return &Conn{tb: tb, conn: conn, lines: relaywire.NewReader(conn), timeout: Timeout}
}

// SetTimeout replaces Timeout for this connection.
func (c *Conn) SetTimeout(d time.Duration) { c.timeout = d }

// LocalAddr is the address the server knows this relay by.
func (c *Conn) LocalAddr() string { return c.conn.LocalAddr().String() }

// Identify sends the id line and expects ok and beat.
func (c *Conn) Identify(id string, token ...string) {
	c.tb.Helper()
	c.Send(strings.Join(append([]string{"id", id}, token...), " "))
	c.Expect("ok")
	c.ExpectPrefix("beat ")
}

// Add sends an add line and expects ok. Other lines that come in between (a poll of what was added
// before) are passed over.
func (c *Conn) Add(name string, tags ...string) {
	c.tb.Helper()
	line := "add " + name
	if len(tags) > 0 {
		line += ":" + strings.Join(tags, ",")
	}
	c.Send(line)
	c.Await("ok")
}

// Send writes each line and its newline, all in one write.
func (c *Conn) Send(lines ...string) {
	c.tb.Helper()
	c.SendRaw(strings.Join(lines, "\n") + "\n")
}

// SendRaw writes text as it is: half a line, garbage, several lines.
func (c *Conn) SendRaw(text string) {
	c.tb.Helper()
	if err := c.TrySend(text); err != nil {
		c.tb.Fatalf("relaytest: sending %.80q: %v", text, err)
	}
}

// TrySend is SendRaw for tests in which the server may have hung up: it returns the error.
func (c *Conn) TrySend(text string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	_, err := io.WriteString(c.conn, text)
	return err
}

// Drip writes text one byte at a time, each in a packet of its own if the network has it so.
func (c *Conn) Drip(text string) {
	c.tb.Helper()
	for i := range len(text) {
		c.SendRaw(text[i : i+1])
	}
}

// Flood writes n bytes without a newline, or fewer if the server hangs up first, and returns how
// many were taken.
func (c *Conn) Flood(n int) int {
	chunk := strings.Repeat("x", 4<<10)
	for sent := 0; ; sent += len(chunk) {
		if sent >= n {
			return sent
		}
		if c.TrySend(chunk[:min(len(chunk), n-sent)]) != nil {
			return sent
		}
	}
}

// ReadLine returns the server's next line without its end.
func (c *Conn) ReadLine() string {
	c.tb.Helper()
	line, err := c.read()
	if err != nil {
		c.tb.Fatalf("relaytest: waiting for a line: %v", err)
	}
	return line
}

// Expect reads as many lines as given; they must be these.
func (c *Conn) Expect(lines ...string) {
	c.tb.Helper()
	for _, want := range lines {
		line, err := c.read()
		if err != nil {
			c.tb.Fatalf("relaytest: waiting for %q: %v", want, err)
		}
		if line != want {
			c.tb.Fatalf("relaytest: the server said %q, expected %q", line, want)
		}
	}
}

// ExpectPrefix reads one line, which must begin with prefix, and returns what follows the prefix.
func (c *Conn) ExpectPrefix(prefix string) string {
	c.tb.Helper()
	line, err := c.read()
	if err != nil {
		c.tb.Fatalf("relaytest: waiting for %q: %v", prefix, err)
	}
	rest, ok := strings.CutPrefix(line, prefix)
	if !ok {
		c.tb.Fatalf("relaytest: the server said %q, expected %q...", line, prefix)
	}
	return rest
}

// Await reads lines until one equals line and returns those before it.
func (c *Conn) Await(line string) (before []string) {
	c.tb.Helper()
	for {
		got, err := c.read()
		if err != nil {
			c.tb.Fatalf("relaytest: waiting for %q after %q: %v", line, before, err)
		}
		if got == line {
			return before
		}
		before = append(before, got)
	}
}

// AwaitPrefix reads lines until one begins with prefix and returns what follows the prefix.
func (c *Conn) AwaitPrefix(prefix string) string {
	c.tb.Helper()
	var before []string
	for {
		got, err := c.read()
		if err != nil {
			c.tb.Fatalf("relaytest: waiting for %q after %q: %v", prefix, before, err)
		}
		if rest, ok := strings.CutPrefix(got, prefix); ok {
			return rest
		}
		before = append(before, got)
	}
}

// Poll waits for the next get, passing over other lines, answers it with the items ("cpu-used:1",
// ...) and returns the names asked for. Without items it does not answer.
func (c *Conn) Poll(items ...string) []string {
	c.tb.Helper()
	names := strings.Split(c.AwaitPrefix("get "), ",")
	if len(items) > 0 {
		c.Send("got " + strings.Join(items, ","))
	}
	return names
}

// ExpectSilence fails the test if the server says anything, or hangs up, within d.
func (c *Conn) ExpectSilence(d time.Duration) {
	c.tb.Helper()
	timeout := c.timeout
	c.timeout = d
	line, err := c.read()
	c.timeout = timeout
	if err == nil {
		c.tb.Fatalf("relaytest: the server said %q, expected nothing for %v", line, d)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.tb.Fatalf("relaytest: expected nothing for %v: %v", d, err)
	}
}

// ExpectClosed passes over what the server still has to say, returns it, and fails the test unless
// the server then closes the connection.
func (c *Conn) ExpectClosed() (before []string) {
	c.tb.Helper()
	for {
		line, err := c.read()
		switch {
		case err == nil:
			before = append(before, line)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			return before
		default:
			c.tb.Fatalf("relaytest: waiting for the server to close after %q: %v", before, err)
		}
	}
}

// CloseWrite ends the relay's side only: the server reads the end, and can still be read.
func (c *Conn) CloseWrite() {
	c.tb.Helper()
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		c.tb.Fatalf("relaytest: %T cannot be closed by half", c.conn)
	}
	if err := half.CloseWrite(); err != nil {
		c.tb.Fatalf("relaytest: %v", err)
	}
}

// Reset ends the connection as a crashed machine's kernel does, with RST instead of FIN.
func (c *Conn) Reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.conn.Close()
}

// Close ends the connection without a word.
func (c *Conn) Close() { _ = c.conn.Close() }

func (c *Conn) read() (string, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout))
	m, err := c.lines.Read()
	if err != nil {
		return "", err
	}
	if m.Verb == relaywire.VerbUnknown {
		return string(m.Args), nil
	}
	if len(m.Args) == 0 {
		return m.Verb.String(), nil
	}
	return m.Verb.String() + " " + string(m.Args), nil
}
