package watchdog

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A countingConn counts the writes to it.
type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return len(p), nil
}

// A socket that nobody reads, which a container may have, does not delay Tell for long.
func TestSocketThatNobodyReads(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path may have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	var log bytes.Buffer
	s := New(slog.New(slog.NewTextHandler(&log, nil)))
	began := time.Now()
	for log.Len() == 0 { // until the socket's queue is full
		s.Tell("STATUS=hello")
	}
	if took := time.Since(began); took > time.Minute || !strings.Contains(log.String(), "systemd could not be told") {
		t.Errorf("after %v it logs %q", took, log.String())
	}
}

// If the server does not answer itself, or answers too late, the watchdog gets no pings and the log
// says why. The pings begin again when the server answers.
func TestWatchdogOfAStuckServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings countingConn
		var stuck atomic.Int64
		var log bytes.Buffer
		s := &Supervisor{log: slog.New(slog.NewTextHandler(&log, nil)), conn: &pings, patience: 30 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Watch(ctx, func(ctx context.Context) error {
				if stuck.Load() == 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			})
		}()
		minute := func() int64 {
			before := pings.writes.Load()
			time.Sleep(time.Minute)
			synctest.Wait()
			return pings.writes.Load() - before
		}
		if n := minute(); n < 6 {
			t.Errorf("%d pings in a minute", n)
		}
		stuck.Store(1)
		time.Sleep(s.patience / 3)
		if n := minute(); n != 0 {
			t.Errorf("%d pings of a stuck server", n)
		}
		stuck.Store(0)
		if n := minute(); n < 5 {
			t.Errorf("%d pings in the minute after", n)
		}
		cancel()
		<-done
		if !strings.Contains(log.String(), "does not answer itself") {
			t.Errorf("it logs %q", log.String())
		}
	})
}
