package main

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// A supervisor is systemd, if it started pulse and wants to hear how it does
// (Type=notify, WatchdogSec); otherwise telling it something does nothing. Its
// connection ends with the process.
type supervisor struct {
	log *slog.Logger
	// tell sends lines of the protocol of sd_notify(3).
	tell func(lines ...string)
	// patience is after how long without a ping pulse is taken for frozen and
	// started again; 0: never.
	patience time.Duration
}

func newSupervisor(log *slog.Logger) *supervisor {
	s := &supervisor{log: log, tell: func(...string) {}}
	var err error
	if s.patience, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("there will be no pings for systemd's watchdog", "error", err)
	}
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return s
	}
	// Kept, and not opened for each message as daemon.SdNotify does: a server that
	// has all the files that it may have must still get its pings out.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		log.Warn("systemd cannot be told anything", "error", err)
		return s
	}
	s.tell = func(lines ...string) {
		err := conn.SetWriteDeadline(time.Now().Add(time.Second)) // should nobody read there
		if err == nil {
			_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		}
		if err != nil {
			log.Warn("systemd could not be told", "what", lines[0], "error", err)
		}
	}
	return s
}

// watch pings the watchdog until ctx ends, for as long as answers returns nil: a
// server that is stuck is started again. What is wrong elsewhere is no reason.
func (s *supervisor) watch(ctx context.Context, answers func(context.Context) error) {
	if s.patience == 0 {
		return
	}
	every := min(s.patience/3, time.Minute) // one may be late; the API keeps an idle connection for two minutes
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, every)
		err := answers(asking)
		cancel()
		switch {
		case err == nil:
			s.tell(daemon.SdNotifyWatchdog)
		case ctx.Err() == nil:
			s.log.Error("the server does not answer itself: systemd's watchdog is not told that it is well", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answering returns a function that asks the server as others do, over the API's
// own listener, and goes through the registry of relays, which every session and
// the polls go through too. Any answer will do, and so /readyz with a 503.
//
// Its connection is kept, so that an API with all the connections or files that
// it may have is not taken for one that is stuck.
func (a *App) answering() func(context.Context) error {
	scheme := "http://"
	transport := &http.Transport{MaxResponseHeaderBytes: maxHeaders}
	if !a.config.Insecure {
		scheme = "https://"
		// It is this process at the other end: there is nobody to mistake it for.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	client := &http.Client{Transport: transport}
	address := scheme + a.query.Addr().String() + "/readyz"
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil { // to its end, for the next one
			return err
		}
		a.ingest.Relays()
		return nil
	}
}
