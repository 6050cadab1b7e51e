package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
)

// A notifySocket is the socket on which systemd gets messages of its services.
type notifySocket struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func listenNotify(t *testing.T) *notifySocket {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path may have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	n := &notifySocket{t: t, path: filepath.Join(dir, "socket")}
	n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.conn.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return n
}

// next returns the next message within the limit, or "" if there is none.
func (n *notifySocket) next(limit time.Duration) string {
	n.t.Helper()
	if err := n.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		n.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	k, err := n.conn.Read(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		n.t.Fatal(err)
	}
	return string(buf[:k])
}

// await reads until a message has the prefix, and returns that message.
func (n *notifySocket) await(prefix string) string {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		message := n.next(time.Until(deadline))
		if message == "" {
			n.t.Fatalf("systemd was not told %s", prefix)
		}
		if strings.HasPrefix(message, prefix) {
			return message
		}
	}
}

// drain reads the messages that were sent before.
func (n *notifySocket) drain() {
	n.t.Helper()
	for n.next(50*time.Millisecond) != "" {
	}
}

// TestSystemd runs a server under systemd. The server reports when it is ready, what it does and
// when it stops. The watchdog gets pings while the server answers, even while InfluxDB is away, and
// none from a process that is stopped.
func TestSystemd(t *testing.T) {
	for name, args := range map[string][]string{
		"http":  nil,
		"https": {"--insecure=false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const patience = 600 * time.Millisecond
			db := testtools.StartInfluxd(t, testtools.InfluxDB18)
			systemd := listenNotify(t)
			s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(),
				Env:  []string{"NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=" + strconv.Itoa(int(patience/time.Microsecond))},
				Args: append([]string{"--influx-address", db.Addr}, args...)})
			if err := s.Launch(); err != nil {
				t.Fatal(err)
			}
			if first := systemd.next(time.Minute); !strings.HasPrefix(first, "STATUS=opening ") {
				t.Errorf("the first message is %q", first)
			}
			ready := systemd.next(time.Minute)
			if !strings.HasPrefix(ready, "READY=1\nSTATUS=relays at "+s.RelayAddr) {
				t.Errorf("the second message is %q", ready)
			}
			if err := s.Welcomes(); err != nil { // READY=1 means that relays can connect
				t.Error(err)
			}
			db.Pause()
			for range 5 {
				if ping := systemd.next(patience); ping != "WATCHDOG=1" {
					t.Fatalf("%q, want a ping at least every %v", ping, patience)
				}
			}
			db.Resume()
			if err := s.Pause(); err != nil {
				t.Fatal(err)
			}
			systemd.drain()
			if message := systemd.next(patience); message != "" {
				t.Errorf("%q of a stopped process", message)
			}
			if err := s.Resume(); err != nil {
				t.Fatal(err)
			}
			systemd.await("WATCHDOG=1")
			stopped := make(chan error)
			go func() { stopped <- s.Stop() }()
			if stopping := systemd.await("STOPPING=1"); !strings.Contains(stopping, "STATUS=") {
				t.Errorf("at the stop it says %q", stopping)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if rest := systemd.next(50 * time.Millisecond); rest != "" {
				t.Errorf("after the stop it said %q", rest)
			}
		})
	}
}
