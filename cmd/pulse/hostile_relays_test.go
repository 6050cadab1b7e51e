package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// hostiles are connections to a listener that attack the server. Their own errors do not matter,
// because the server may treat them as it likes.
type hostiles struct {
	addr, token string
	ctx         context.Context
	cancel      context.CancelFunc
	all         sync.WaitGroup

	connections atomic.Int64  // made so far
	welcomed    atomic.Int64  // relays with odd ids that the server accepted
	numbers     atomic.Int64  // for ids that were not used before
	allOdd      chan struct{} // closed when each odd id was tried
}

func newHostiles(t *testing.T, addr, token string) *hostiles {
	h := &hostiles{addr: addr, token: token, allOdd: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(t.Context())
	t.Cleanup(h.stop)
	return h
}

func (h *hostiles) stop() {
	h.cancel()
	h.all.Wait()
}

// manySeries is the number of relays from which on one of them answers stats without end. InfluxDB
// has to make a field of each stat that is accepted, which takes most of a minute under the race
// detector.
const manySeries = 2000

// attack starts all attacks. n is the number of all relays, with the honest ones.
func (h *hostiles) attack(n int) {
	few := n/500 + 1
	h.start(n/20, time.Second, h.stallQuietly)
	h.start(n/20, time.Second, h.stallInALine)
	h.start(n/20, 2*time.Second, h.flap)
	h.start(n/20, 2*time.Second, h.flapUnknown)
	h.start(n/20, time.Second, h.nonsense)
	h.start(n/20, 2*time.Second, h.nonsenseAtOnce)
	h.start(n/2, time.Second, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) // sends nothing
	h.start(few, time.Second, func(net.Conn) {})                                  // disconnects
	h.start(n/100, time.Second, func(c net.Conn) { h.say(c, "id web1 wrong\n"); h.hear(c) })
	h.start(few, time.Second, h.badReadings)
	h.start(few, time.Second, h.longLines)
	h.start(few, time.Second, func(c net.Conn) { h.endless(c, "") })
	h.start(few, time.Second, func(c net.Conn) { h.endless(c, h.id("endless")) })
	h.start(1, time.Second, func(net.Conn) { h.neverReads() })
	h.start(1, time.Hour, func(c net.Conn) { h.repeat(c, 100*n, "add c%d\n", 1) })
	if n >= manySeries {
		h.start(1, time.Hour, func(c net.Conn) { h.repeat(c, 30, "got c-evil:1"+strings.Repeat(",c-evil%d:1", 100)+"\n", 100) })
	}
	h.start(2, 300*time.Millisecond, func(c net.Conn) { h.say(c, h.id("twin")); h.hear(c) })
	h.start(1, time.Hour, func(net.Conn) { h.oddNames() })
}

// start opens n connections that all run do. Each connection is made again after a pause when it
// has ended.
func (h *hostiles) start(n int, pause time.Duration, do func(net.Conn)) {
	for range n {
		h.all.Go(func() {
			again(h.ctx, pause/2+rand.N(pause), func() {
				c, err := new(net.Dialer).DialContext(h.ctx, "tcp", h.addr)
				if err != nil {
					return
				}
				h.connections.Add(1)
				defer c.Close()
				defer context.AfterFunc(h.ctx, func() { _ = c.Close() })()
				do(c)
			})
		})
	}
}

func (h *hostiles) say(c net.Conn, text string) bool {
	_, err := io.WriteString(c, text)
	return err == nil
}

// hear reads until the connection ends.
func (h *hostiles) hear(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// id returns the line that makes a connection a relay.
func (h *hostiles) id(name string) string { return "id " + name + " " + h.token + "\n" }

// newcomer returns the lines for an id that was not used before, and a collector.
func (h *hostiles) newcomer(kind string) string {
	return h.id(fmt.Sprintf("%s-%d", kind, h.numbers.Add(1))) + "add c\n"
}

// stallQuietly sends no answers and reads nothing.
func (h *hostiles) stallQuietly(c net.Conn) {
	h.say(c, h.newcomer("quiet"))
	select {
	case <-h.ctx.Done():
	case <-time.After(12 * time.Second): // longer than two beats
	}
}

// stallInALine stops in the middle of its first answer.
func (h *hostiles) stallInALine(c net.Conn) {
	h.say(c, h.newcomer("half"))
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "get") {
			h.say(c, "got c-evil:1,c-ev")
			h.hear(c)
		}
	}
}

// flap disconnects as soon as the server accepts it, with one of 100 ids. Mostly it resets the
// connection.
func (h *hostiles) flap(c net.Conn) {
	h.say(c, h.id(fmt.Sprintf("flap-%d", rand.N(100)))+"add c\n")
	_, _ = c.Read(make([]byte, 64))
	if rand.N(8) > 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

func (h *hostiles) flapUnknown(c net.Conn) {
	h.say(c, h.newcomer("flap"))
	_, _ = c.Read(make([]byte, 64))
	_ = c.(*net.TCPConn).SetLinger(0)
}

// nonsense is a relay that sends lines of random bytes.
func (h *hostiles) nonsense(c net.Conn) {
	go h.hear(c)
	h.say(c, h.newcomer("nonsense"))
	for h.say(c, gibberish()) {
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// nonsenseAtOnce sends no valid id.
func (h *hostiles) nonsenseAtOnce(c net.Conn) {
	first := []string{gibberish(), "hello\n", "id\n", "id \n", "id " + strings.Repeat("x", 300) + " " + h.token + "\n", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "\n"}
	h.say(c, first[rand.N(len(first))])
	if rand.N(4) > 0 {
		h.hear(c)
	}
}

func gibberish() string {
	b := make([]byte, 1+rand.N(300))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b) + "\n"
}

// badReadings sends readings of every kind that the server cannot accept.
func (h *hostiles) badReadings(c net.Conn) {
	go h.hear(c)
	h.say(c, h.newcomer("bad")+"add \x01\nadd a:b\nunits x\n")
	for h.say(c, "got c-evil,c-evil:text,c-evil:NaN,c-evil:1e999,c-e-vil:1,other-evil:1,c-evil:1,c-evil:1\n") {
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// longLines sends lines of the greatest length.
func (h *hostiles) longLines(c net.Conn) {
	go h.hear(c)
	h.say(c, h.newcomer("long"))
	one := "got c-" + strings.Repeat("x", relaywire.MaxLine-20) + ":1\n"
	many := "got " + strings.Repeat("c-evil:1,", relaywire.MaxLine/9-2) + "c-evil:1\n"
	for i := 0; h.say(c, []string{one, many, gibberish()}[i%3]); i++ {
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// endless sends a line without an end.
func (h *hostiles) endless(c net.Conn, first string) {
	go h.hear(c)
	h.say(c, first)
	for text := strings.Repeat("x", 1<<10); h.say(c, text); {
	}
}

// neverReads repeats a request with a long answer. It does not read the answers, and has little
// room for them.
func (h *hostiles) neverReads() {
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	c, err := small.DialContext(h.ctx, "tcp", h.addr)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(h.ctx, func() { _ = c.Close() })()
	h.say(c, h.newcomer("deaf"))
	for text := strings.Repeat("add \x01\n", 10_000); h.say(c, text); {
	}
}

// repeat sends n lines as fast as it can. Each line holds the given number of new numbers.
func (h *hostiles) repeat(c net.Conn, n int, line string, numbers int) {
	go h.hear(c)
	w := bufio.NewWriterSize(c, 64<<10)
	_, _ = w.WriteString(h.newcomer("many"))
	next := make([]any, numbers)
	for i := range n {
		for k := range next {
			next[k] = i*numbers + k
		}
		if _, err := fmt.Fprintf(w, line, next...); err != nil {
			return
		}
	}
	_ = w.Flush()
	again(h.ctx, time.Second, func() { h.say(c, "ping\n") })
}

// oddNames connects with an id for each possible byte. A relay that the server accepts answers one
// poll.
func (h *hostiles) oddNames() {
	for b := range 256 {
		if h.oddName(string([]byte{'a', byte(b), 'z'})) {
			h.welcomed.Add(1)
		}
	}
	close(h.allOdd)
}

func (h *hostiles) oddName(name string) bool {
	c, err := new(net.Dialer).DialContext(h.ctx, "tcp", h.addr)
	if err != nil {
		return false
	}
	h.connections.Add(1)
	defer c.Close()
	defer context.AfterFunc(h.ctx, func() { _ = c.Close() })()
	h.say(c, h.id(name)+"add c\n")
	lines, welcome := bufio.NewReader(c), false
	for {
		line, err := lines.ReadString('\n')
		switch {
		case err != nil || strings.HasPrefix(line, "error"):
			return false
		case line == "ok\n" && !welcome:
			welcome = true
			h.say(c, "got c-odd:1\nping\n")
		case line == "pong\n": // the readings before it are in the journal
			return true
		}
	}
}
