package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

// runRelay is the agent of a host: it runs until it is told to stop, and
// reconnects for as long as that takes.
func runRelay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("relay", "Send this host's cpu, ram, swap, disk, load and network to a server, until it is stopped.", "PULSE_RELAY", stdout, stderr)
	hostname, _ := os.Hostname() // empty is refused below
	var (
		server = c.String("server", "127.0.0.1:3000", "Address of the server's relay listener")
		id     = c.String("id", hostname, "What this relay calls itself; the tag host of its readings")
		token  = c.String("token", "", "The server's --relay-token")
		tags   = c.String("tags", "", "Tags for every stat, such as service:web1,rack:7")
		useTLS = c.Bool("tls", false, "Connect with TLS")
		caFile = c.String("tls-ca", "", "Certificate (PEM) to trust, such as the server's self-signed one; implies --tls")
		level  = c.String("log-level", "INFO", "Level at which to log (TRACE, DEBUG, INFO, WARN, ERROR, FATAL)")
	)
	if done, code := c.parse(args); done {
		return code
	}
	logLevel, err := logLevel(*level)
	if err != nil {
		return c.misused(fmt.Errorf("--log-level: %w", err))
	}
	if err := checkRelayToken(*token); err != nil {
		return c.misused(fmt.Errorf("--token: %w", err))
	}
	tlsConfig, err := clientTLS(*useTLS, *caFile)
	if err != nil {
		return c.misused(fmt.Errorf("--tls-ca: %w", err))
	}
	r, err := newHostRelay(relay.Options{
		Address: *server, ID: *id, Token: *token, TLS: tlsConfig,
		Logger: newLogger(stderr, logLevel),
	}, splitTags(*tags))
	if err != nil {
		return c.misused(err)
	}
	<-ctx.Done()
	if err := r.Close(); err != nil {
		return c.failed(err)
	}
	return exitOK
}

// hostRelay is a relay that offers this host's own stats, as the host is.
type hostRelay struct {
	*relay.Relay
	watcher *hoststats.Watcher
}

func newHostRelay(o relay.Options, tags []string) (*hostRelay, error) {
	r, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	watcher, err := hoststats.Watch(r, tags)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &hostRelay{r, watcher}, nil
}

// Close disconnects.
func (r *hostRelay) Close() error {
	r.watcher.Close()
	return r.Relay.Close()
}

func splitTags(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func clientTLS(use bool, caFile string) (*tls.Config, error) {
	if caFile == "" {
		if !use {
			return nil, nil
		}
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}
