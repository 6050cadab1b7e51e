package main

import (
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/nanopack/pulse/relaywire"
)

// reservedFiles is how many of the files that the process may have open no
// connection gets; a quarter of them where only few are allowed. The journal opens
// files for every fsync, and InfluxDB for every shard: without this, whoever opens
// connections enough could cost the readings of the relays that are connected.
const reservedFiles = 256

// A reservingListener closes connections that it has no file for.
type reservingListener struct {
	net.Listener
	goodbye string // is said first
	refused prometheus.Counter
	warn    rate.Sometimes
	log     *slog.Logger
}

// reserveFiles wraps the listener of a flag.
func reserveFiles(l net.Listener, flag, goodbye string, refused *prometheus.CounterVec, log *slog.Logger) net.Listener {
	return &reservingListener{Listener: l, goodbye: goodbye, refused: refused.WithLabelValues(flag),
		warn: rate.Sometimes{First: 1, Interval: time.Minute}, log: log.With("listener", flag)}
}

func newConnectionsRefused() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pulse_connections_refused_total", Help: "Connections closed at once so that the journal and InfluxDB have files left to open, by listener.",
	}, []string{"listener"})
}

// goodbyes are what HTTP clients and relays are told; nothing, where they would
// expect TLS.
func goodbyes(config *Config) (http, relay string) {
	if config.Insecure {
		http = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	}
	if !config.RelayTLS {
		relay = string(relaywire.AppendError(nil, "the server has too many open files"))
	}
	return http, relay
}

// Accept waits for a connection that there is a file for.
func (l *reservingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		number, most := fileNumber(conn), mostFiles()
		if number < most-min(reservedFiles, most/4) {
			return conn, nil
		}
		l.refused.Inc()
		l.warn.Do(func() {
			l.log.Warn("connection refused: the process has nearly all the files open that it may", "limit", most, "hint", "raise the limit of open files")
		})
		// Nothing waits to be sent on a new connection, so that this does not block;
		// a client that is not told sees the end.
		_, _ = conn.Write([]byte(l.goodbye))
		_ = conn.Close()
	}
}

// fileNumber is the connection's file descriptor. It is always the lowest that was
// free, so that no connection has one of the last, which are left to what is no
// connection.
func fileNumber(conn net.Conn) (number uint64) {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { number = uint64(fd) }) // a closed one needs no room
		}
	}
	return number
}

// mostFiles is how many files the process may have open. It is asked each time:
// the limit of a running process can be raised.
func mostFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1 << 20
	}
	return limit.Cur
}
