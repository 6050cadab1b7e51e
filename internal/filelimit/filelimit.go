// Package filelimit keeps connections from using the last files that a process may open.
//
// A database opens files for every fsync. Without this package, clients could open so many
// connections that the database gets no files any more.
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

// Reserved is how many of the files that the process may open are kept from connections. If the
// limit of the process is low, a quarter of it is kept instead.
const Reserved = 256

// A Listener closes each connection that has no file left within the limit.
type Listener struct {
	net.Listener
	farewell string
	refused  prometheus.Counter
	warn     rate.Sometimes
	log      *slog.Logger
}

// Listen wraps l. A connection that would use a reserved file is refused: it is sent farewell,
// which may be empty, is closed, and is counted in refused. At most one line a minute goes to log.
func Listen(l net.Listener, farewell string, refused prometheus.Counter, log *slog.Logger) *Listener {
	return &Listener{
		Listener: l, farewell: farewell, refused: refused, log: log,
		warn: rate.Sometimes{First: 1, Interval: time.Minute},
	}
}

// Accept waits for a connection that does not use a reserved file.
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
		// The write does not block, because no other data waits to be sent on a new connection. A
		// client that does not get the farewell sees the connection close.
		_, _ = conn.Write([]byte(l.farewell))
		_ = conn.Close()
	}
}

// descriptor returns the file descriptor of conn. A new descriptor is always the lowest free
// number, so the highest numbers stay free for files that are not connections.
func descriptor(conn net.Conn) (number uint64) {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { number = uint64(fd) }) // it may be closed
		}
	}
	return number
}

// openFiles returns how many files the process may open. The limit of a running process can be
// raised, so openFiles asks for it at each connection.
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 20
	}
	return limit.Cur
}
