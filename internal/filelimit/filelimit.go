// Package filelimit keeps the last files that a process may open away from its connections.
//
// A database opens files for every fsync. Without this package, clients that open connections
// enough could cost it the files that it needs.
package filelimit

import (
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Reserved is how many of the files that the process may have open no connection gets. Where the
// process may have few files open, it is a quarter of them.
const Reserved = 256

// A Listener closes each connection for which it has no file.
type Listener struct {
	net.Listener
	farewell string
	refused  prometheus.Counter
	warn     rate.Sometimes
	log      *slog.Logger
}

// Listen wraps l. A connection for which there is no file is sent farewell, which may be empty, is
// closed and counted in refused. A line a minute goes to log.
func Listen(l net.Listener, farewell string, refused prometheus.Counter, log *slog.Logger) *Listener {
	return &Listener{
		Listener: l, farewell: farewell, refused: refused, log: log,
		warn: rate.Sometimes{First: 1, Interval: time.Minute},
	}
}

// Accept waits for a connection for which there is a file.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		number, limit := descriptor(conn), openFiles()
		if number < limit-min(Reserved, limit/4) {
			return conn, nil
		}
		l.refused.Inc()
		l.warn.Do(func() {
			l.log.Warn("connection refused: the process has nearly all the files open that it may",
				"limit", limit, "hint", "raise the limit of open files")
		})
		// The write does not block, because nothing else waits to be sent on a new connection. A
		// client that is not told sees the end.
		_, _ = conn.Write([]byte(l.farewell))
		_ = conn.Close()
	}
}

// descriptor returns the file descriptor of conn. A new descriptor is always the lowest that is
// free, so the highest ones are left to what is no connection.
func descriptor(conn net.Conn) (number uint64) {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { number = uint64(fd) }) // a closed one needs no room
		}
	}
	return number
}

// openFiles returns how many files the process may have open. The limit of a running process can be
// raised, so it is asked for each connection.
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 20
	}
	return limit.Cur
}
