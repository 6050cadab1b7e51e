// Package watchdog tells systemd the state of the process. It speaks the protocol of sd_notify(3),
// for a unit with Type=notify and WatchdogSec.
package watchdog

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A Supervisor is the systemd that started this process. If systemd did not start it, the methods
// do nothing. The connection to systemd stays open until the process ends. The methods are safe for
// concurrent use.
type Supervisor struct {
	log  *slog.Logger
	conn net.Conn // nil: there is no systemd to notify
	// patience is how long systemd waits for a ping before it restarts the process; 0 means for
	// ever.
	patience time.Duration
}

// New connects to the systemd that the environment names. It logs each failure.
func New(log *slog.Logger) *Supervisor {
	s := &Supervisor{log: log}
	var err error
	if s.patience, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("there will be no pings for systemd's watchdog", "error", err)
	}
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return s
	}
	// The connection stays open, unlike that of daemon.SdNotify, which opens a connection for each
	// message. A server that may open no more files must still send its pings.
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		log.Warn("systemd cannot be told anything", "error", err)
		return s
	}
	s.conn = conn
	return s
}

// Tell sends lines of the protocol, such as STATUS=... or daemon.SdNotifyReady.
func (s *Supervisor) Tell(lines ...string) {
	if s.conn == nil {
		return
	}
	err := s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // in case nobody reads the socket
	if err == nil {
		_, err = s.conn.Write([]byte(strings.Join(lines, "\n")))
	}
	if err != nil {
		s.log.Warn("systemd could not be told", "what", lines[0], "error", err)
	}
}

// Watch pings the watchdog until ctx ends, as long as answers returns nil. A server that is stuck
// sends no ping, so systemd restarts it. answers must test nothing but this process, because a
// fault elsewhere is no reason for a restart.
func (s *Supervisor) Watch(ctx context.Context, answers func(context.Context) error) {
	if s.patience == 0 {
		return
	}
	every := min(s.patience/3, time.Minute) // one ping may be late
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, every)
		err := answers(asking)
		cancel()
		switch {
		case err == nil:
			s.Tell(daemon.SdNotifyWatchdog)
		case ctx.Err() == nil:
			s.log.Error("the server does not answer itself: "+
				"systemd's watchdog is not told that it is well", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
