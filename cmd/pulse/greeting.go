package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/journal"
)

// greet writes where the server listens, how far the journal reaches, and commands to try.
func (a *App) greet(ctx context.Context, w io.Writer) {
	scheme, flags := "http", ""
	if !a.config.Insecure {
		scheme = "https"
		if a.config.TLSCert == "" {
			flags = " --cacert " + filepath.Join(a.config.DataDir, "tls", "cert.pem")
		}
	}
	token, fragment := a.config.Token, "/#token="+a.config.Token
	if token != defaultToken { // what is printed may be kept in a log
		token, fragment = "$TOKEN", "/ (asks for the token)"
	}
	nats := "off"
	if address := a.clients.Addr(); address != nil {
		nats = fmt.Sprintf("nats://%s (user pulse, password the token; docs/SUBSCRIBE.md)", address)
	}
	state, err := a.journal.State(ctx)
	reach := describeReach(state.Reach, a.config.JournalRetention)
	if err != nil {
		reach = err.Error()
	}
	base := fmt.Sprintf("%s://%s", scheme, fromHere(a.query.Addr()))
	fmt.Fprintf(w, "pulse %s\n\n  page     %s\n  relays   %s\n  api      %s\n%s  nats     %s\n  data     %s\n  journal  %s\n  influxdb %s\n\n", version(),
		base+fragment, a.ingest.Addr(), base, a.describeLink(), nats, a.config.DataDir, reach, maskPassword(a.config.InfluxAddress))
	for _, path := range []string{"/latest/cpu_used", "/hourly/cpu_used", "/relays", "/status"} {
		fmt.Fprintf(w, "  curl%s -H \"X-AUTH-TOKEN: %s\" %s%s\n", flags, token, base, path)
	}
	fmt.Fprintln(w)
}

// describeLink returns the line about the link of an edge or a hub, "" for others.
func (a *App) describeLink() string {
	c := a.config
	switch {
	case c.HubListenAddress != "" && c.TLSCert == "":
		return fmt.Sprintf("  edges    %s (%d known; --hub-ca %s)\n", a.edgeListener.Addr(), len(c.Edges), filepath.Join(c.DataDir, "tls", "cert.pem"))
	case c.HubListenAddress != "":
		return fmt.Sprintf("  edges    %s (%d known)\n", a.edgeListener.Addr(), len(c.Edges))
	case c.HubAddress != "":
		return fmt.Sprintf("  hub      %s (this is its edge %s)\n", c.HubAddress, c.EdgeName)
	}
	return ""
}

// describeReach says how far back the journal reaches, and why no farther.
func describeReach(r journal.Reach, retention time.Duration) string {
	at := "at the present rate of " + human.Bytes(int64(r.BytesPerSecond)) + "/s"
	kept := human.Seconds(retention.Seconds())
	switch r.Limit {
	case journal.LimitRetention:
		return fmt.Sprintf("reaches back %s %s (--journal-retention)", kept, at)
	case journal.LimitMaxBytes:
		return fmt.Sprintf("reaches back %s %s (--journal-max-bytes; the %s of --journal-retention need %s)",
			human.Seconds(r.Seconds), at, kept, human.SizeFlag(r.Needs(retention)))
	}
	return "how far it reaches back is known after a minute of readings"
}

// checkReach writes how far the journal of a data dir reaches, for --check-config.
func checkReach(w io.Writer, c *Config) {
	dir := filepath.Join(c.DataDir, "journal")
	reach, err := journal.ReachOf(dir, c.JournalRetention, c.JournalMaxBytes)
	said := describeReach(reach, c.JournalRetention)
	if err != nil {
		said = fmt.Sprintf("how far it reaches back is not known: %v", err)
	}
	fmt.Fprintf(w, "pulse: the journal in %s: %s\n", c.DataDir, said)
}

// fromHere returns a listening address in a form that clients on this host can use. An address that
// stands for all addresses becomes localhost, because a certificate has no name for it.
func fromHere(address net.Addr) string {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return address.String()
}
