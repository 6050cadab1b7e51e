package ingest

import (
	"bufio"
	"fmt"
	"net"
	"testing"
)

// socketPair returns both ends of a TCP connection. The buffers between them are small.
func socketPair(t *testing.T) (server, relay *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close() })
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	server, relay = accepted.(*net.TCPConn), dialed.(*net.TCPConn)
	if err := server.SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if err := relay.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	return server, relay
}

// TestLinesKeepTheirOrder: whether the kernel takes a line at once, a part of it, or a goroutine
// has to write it, the relay gets all lines whole and in order. Afterwards lines are written
// without a goroutine again.
func TestLinesKeepTheirOrder(t *testing.T) {
	server, relay := socketPair(t)
	c := newConn(server, nil)
	lines := bufio.NewReader(relay)
	line := func(i int) string { return fmt.Sprintf("line %d %0*d\n", i, i%300, 0) }
	sent, read := 0, 0
	waited := false
	for round := range 20 {
		for waiting := 0; waiting < 20_000; {
			l := line(sent)
			sent++
			waiting += len(l)
			if !c.send([]byte(l)) {
				t.Fatalf("line %d was refused", sent)
			}
		}
		c.mu.Lock()
		waited = waited || c.writing
		c.mu.Unlock()
		for ; read < sent; read++ {
			got, err := lines.ReadString('\n')
			if err != nil || got != line(read) {
				t.Fatalf("round %d: line %d is %.40q (%v)", round, read, got, err)
			}
		}
		c.mu.Lock()
		for c.writing {
			c.cond.Wait()
		}
		if n := c.socket.take([]byte("x\n")); n != 2 {
			t.Errorf("round %d: the kernel took %d of 2 bytes", round, n)
		}
		c.mu.Unlock()
		if got, err := lines.ReadString('\n'); err != nil || got != "x\n" {
			t.Fatalf("round %d: %q (%v)", round, got, err)
		}
	}
	if !waited {
		t.Error("the kernel took everything at once")
	}
}

// TestBrokenConnectionIsLost: a write that the kernel refuses ends the session.
func TestBrokenConnectionIsLost(t *testing.T) {
	server, _ := socketPair(t)
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c := newConn(server, nil)
	c.send([]byte("get a\n"))
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing {
		c.cond.Wait()
	}
	if c.ending != endLost || !c.dead {
		t.Errorf("ended for %q, dead: %v; want lost", c.ending, c.dead)
	}
}

// TestSendAllocatesNothing: a poll over TCP needs no memory and no goroutine.
func TestSendAllocatesNothing(t *testing.T) {
	server, relay := socketPair(t)
	c := newConn(server, nil)
	line, buf := []byte("get cpu,ram\n"), make([]byte, 64)
	n := testing.AllocsPerRun(100, func() {
		c.send(line)
		if _, err := relay.Read(buf); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
