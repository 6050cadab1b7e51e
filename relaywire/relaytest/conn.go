// Package relaytest provides relays for tests and benchmarks of servers that relays connect to.
//
// [Conn] is one relay that the test controls line by line: it can be honest, odd or hostile. It
// does nothing by itself (it neither answers nor pings), and it fails the test when the server does
// not send the expected line within its timeout. [Fleet] is any number of honest relays in one
// process. Its relays are as cheap as possible: one goroutine each, no memory per reading, values
// that a test can predict, and counters of what was sent. A Fleet needs no test, so that benchmarks
// and commands can use it.
//
// Promise: both close what they opened, a Conn in the test's cleanup and a Fleet in Stop, and leave
// no goroutine running.
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

// Timeout is how long a Conn waits for the server before it fails the test, and how long a Fleet's
// relay waits for its welcome.
const Timeout = time.Minute

// Conn is one scripted relay. It belongs to the test's goroutine. A method that cannot do what its
// comment says fails the test.
type Conn struct {
	tb      testing.TB
	conn    net.Conn
	lines   *relaywire.Reader
	timeout time.Duration
}

// Dial connects to addr without sending anything. The connection is closed when the test ends.
func Dial(tb testing.TB, addr string) *Conn {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", addr, Timeout)
	if err != nil {
		tb.Fatalf("relaytest: %v", err)
	}
	return newConn(tb, conn)
}

// DialTLS is Dial over TLS; the handshake is complete when it returns.
func DialTLS(tb testing.TB, addr string, config *tls.Config) *Conn {
	tb.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: Timeout}, "tcp", addr, config)
	if err != nil {
		tb.Fatalf("relaytest: %v", err)
	}
	return newConn(tb, conn)
}

// Connect dials and identifies: it returns when the server has sent ok and beat. A token is
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

// LocalAddr is the address by which the server knows this relay.
func (c *Conn) LocalAddr() string { return c.conn.LocalAddr().String() }

// Identify sends the id line and expects ok, beat and takes.
func (c *Conn) Identify(id string, token ...string) {
	c.tb.Helper()
	c.Send(strings.Join(append([]string{"id", id}, token...), " "))
	c.Expect("ok")
	c.ExpectPrefix("beat ")
	c.ExpectPrefix("takes ")
}

// Add sends an add line and waits for ok. It skips other lines before the ok, such as a poll of
// collectors that were added earlier.
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

// TrySend is SendRaw for tests in which the server may have closed the connection: it returns the
// error.
func (c *Conn) TrySend(text string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	_, err := io.WriteString(c.conn, text)
	return err
}

// Drip writes text one byte at a time, each in a packet of its own if the network does not join
// them.
func (c *Conn) Drip(text string) {
	c.tb.Helper()
	for i := range len(text) {
		c.SendRaw(text[i : i+1])
	}
}

// Flood writes n bytes without a newline, or fewer if the server closes the connection first. It
// returns how many bytes were written.
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

// Expect reads as many lines as it is given; they must be equal to the given ones.
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

// Poll skips lines until the next get, answers it with the items ("cpu-used:1", ...) and returns
// the requested names. Without items it does not answer.
func (c *Conn) Poll(items ...string) []string {
	c.tb.Helper()
	names := strings.Split(c.AwaitPrefix("get "), ",")
	if len(items) > 0 {
		c.Send("got " + strings.Join(items, ","))
	}
	return names
}

// ExpectSilence fails the test if the server sends anything or closes the connection within d.
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

// ExpectClosed reads and returns the server's remaining lines. It fails the test unless the server
// then closes the connection.
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

// CloseWrite ends only the relay's side: the server reads the end, and the relay can still read
// from the server.
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

// Close ends the connection without sending a close line.
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
