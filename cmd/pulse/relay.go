package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

// runRelay is the agent of a host. It runs until ctx ends, and reconnects whenever the server was
// away.
func runRelay(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	hangups := notifyHangups()
	a, done, code := parseAgent(args, stdout, stderr)
	if done {
		return code
	}
	var level slog.LevelVar
	level.Set(a.level)
	a.options.Logger = newLogger(stderr, &level)
	for _, warning := range unknownEnvironment(a.env, slices.Collect(maps.Keys(a.values)), os.Environ()) {
		a.options.Logger.WarnContext(ctx, warning)
	}
	r, err := newHostRelay(a.options, a.tags)
	if err != nil {
		return a.misused(err)
	}
	reloadAtHangups(ctx, hangups, func() {
		var said bytes.Buffer
		next, done, _ := parseAgent(args, io.Discard, &said)
		err := errors.New(strings.TrimSpace(said.String()))
		if !done {
			err = a.reload(next, r.SetCredentials, &level)
		}
		if err != nil {
			reloadFailed(a.options.Logger, err)
		}
	})
	if err := r.Close(); err != nil {
		return a.failed(err)
	}
	return exitOK
}

// An agent is the configuration of `pulse relay`.
type agent struct {
	*command
	options relay.Options // but for the Logger
	tags    []string
	level   slog.Level
	values  map[string]string // of every flag, as reloads have changed it
}

// agentReloads are the flags whose new values a running agent takes over. The agent reads the file
// of --tls-ca again, whether its name has changed or not.
var agentReloads = []string{"log-level", "tls-ca", "token"}

// parseAgent reads the flags. If done is true, the command has said why and ends with the code.
func parseAgent(args []string, stdout, stderr io.Writer) (a *agent, done bool, code int) {
	c := newCommand("relay", "Send this host's cpu, ram, swap, disk, load and network to a server, until it is stopped.", "PULSE_RELAY", stdout, stderr)
	hostname, _ := os.Hostname() // empty is refused below
	var (
		server = c.String("server", "127.0.0.1:3000", "Address of the server's relay listener")
		id     = c.String("id", hostname, "What this relay calls itself; the tag host of its readings")
		token  = c.String("token", "", "The server's --relay-token; it is given only to a server that asks for one")
		tags   = c.String("tags", "", "Tags for every stat, such as service:web1,rack:7")
		useTLS = c.Bool("tls", false, "Connect with TLS")
		caFile = c.String("tls-ca", "", "Certificate (PEM) to trust, such as the server's self-signed one; implies --tls")
		_      = c.String("config-file", "", "Config file (JSON) with these flags as its keys; SIGHUP has it read again")
		level  = c.String("log-level", "INFO", "Level at which to log (TRACE, DEBUG, INFO, WARN, ERROR, FATAL)")
	)
	if done, code := c.parse(args); done {
		return nil, true, code
	}
	if err := setFromFile(c.FlagSet); err != nil {
		return nil, true, c.misused(err)
	}
	logLevel, err := logLevel(*level)
	if err != nil {
		return nil, true, c.misused(fmt.Errorf("--log-level: %w", err))
	}
	if err := checkRelayToken(*token); err != nil {
		return nil, true, c.misused(fmt.Errorf("--token: %w", err))
	}
	relayTags, err := relayTags(*tags)
	if err != nil {
		return nil, true, c.misused(fmt.Errorf("--tags: %w", err))
	}
	tlsConfig, err := clientTLS(*useTLS, *caFile)
	if err != nil {
		return nil, true, c.misused(fmt.Errorf("--tls-ca: %w", err))
	}
	values := make(map[string]string)
	c.VisitAll(func(f *flag.Flag) { values[f.Name] = f.Value.String() })
	return &agent{
		command: c, options: relay.Options{Address: *server, ID: *id, Token: *token, TLS: tlsConfig},
		tags: relayTags, level: logLevel, values: values,
	}, false, exitOK
}

// reload takes over from next what can change while the agent runs: the credentials of the next
// connection, and the log level. The present connection stays. If reload returns an error, nothing
// has changed.
func (a *agent) reload(next *agent, setCredentials func(string, *tls.Config) error, level *slog.LevelVar) error {
	changed, left := differing(slices.Sorted(maps.Keys(next.values)), a.values, next.values, agentReloads)
	if err := setCredentials(next.options.Token, next.options.TLS); err != nil {
		return err
	}
	level.Set(next.level)
	for _, name := range agentReloads {
		a.values[name] = next.values[name]
	}
	tellReload(a.options.Logger, changed, left)
	return nil
}

// A hostRelay is a relay that offers the stats of this host, and follows the disks and interfaces
// that come and go.
type hostRelay struct {
	*relay.Relay
	watcher *hoststats.Watcher
}

func newHostRelay(o relay.Options, tags []string) (*hostRelay, error) {
	r, err := relay.New(o)
	if err != nil {
		return nil, err
	}
	warnOfRelay(o.ID, tags, o.Logger)
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
