package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/nanopack/pulse/internal/command"
)

// reloadable are the options whose new values a running server takes over. It reads the files of
// --tls-cert, --tls-key and --hub-ca again, whether their names have changed or not.
var reloadable = []string{"cors-allow", "edges", "hub-ca", "hub-token", "log-level", "read-token", "relay-token", "tls-cert", "tls-key", "token"}

// reloaded returns the running configuration with those values of next that a running server takes
// over, the flags that changed, and the flags that need a restart. The error says why the new
// configuration would be wrong.
func (c *Config) reloaded(next *Config) (merged *Config, changed, left []string, err error) {
	copied := *c
	merged = &copied
	merged.values = maps.Clone(c.values)
	takes := slices.Clone(reloadable)
	// A running server does not become an edge or a hub, and does not cease to be one.
	if (c.HubAddress == "") != (next.HubAddress == "") {
		takes = slices.DeleteFunc(takes, func(name string) bool { return name == "hub-token" || name == "hub-ca" })
	}
	if (c.HubListenAddress == "") != (next.HubListenAddress == "") {
		takes = slices.DeleteFunc(takes, func(name string) bool { return name == "edges" })
	}
	var names []string
	for _, o := range options() {
		names = append(names, o.long)
		if slices.Contains(takes, o.long) {
			merged.values[o.long] = next.values[o.long]
			if err := o.set(merged, next.values[o.long]); err != nil {
				return nil, nil, nil, fmt.Errorf("--%s: %w", o.long, err)
			}
		}
	}
	changed, left = command.Differing(names, c.values, next.values, takes)
	return merged, changed, left, merged.validate()
}

// Reload takes over from next what can change while the server runs: the tokens, the certificate,
// the origin for browsers, the log level. Connected relays, NATS clients and streams stay
// connected; new ones need the new tokens. An edge that has no token any more, or another, is
// disconnected. If Reload returns an error, nothing has changed.
func (a *App) Reload(next *Config, level *slog.LevelVar) error {
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	running, changed, left, err := a.running.reloaded(next)
	if err != nil {
		return err
	}
	pair := a.certificate.pair.Load()
	if running.usesTLS() {
		if pair, err = loadCertificate(running); err != nil {
			return err
		}
		if !bytes.Equal(pair.Certificate[0], a.certificate.pair.Load().Certificate[0]) {
			changed = append(changed, "the certificate")
		}
	}
	trusted, err := hubTLS(running)
	if err != nil {
		return err
	}
	if err := a.ingest.SetToken(running.RelayToken); err != nil {
		return fmt.Errorf("--relay-token: %w", err)
	}
	if a.hostRelay != nil {
		if err := a.hostRelay.SetCredentials(running.RelayToken, nil); err != nil {
			return fmt.Errorf("--relay-token: %w", err) // cannot be: ingest took it
		}
	}
	a.certificate.pair.Store(pair)
	if a.edges != nil {
		a.edges.SetTokens(running.Edges)
	}
	if a.uplink != nil {
		a.uplink.SetTLS(trusted)
		a.uplink.SetToken(running.HubToken)
	}
	a.query.SetTokens(running.Token, running.ReadToken)
	a.query.SetCORS(running.CORSAllow)
	a.clients.SetPasswords(running.Token, running.ReadToken)
	level.Set(running.LogLevel)
	a.running = running
	command.TellReload(a.log, changed, left)
	for _, warning := range running.warnings() {
		a.log.Warn(warning)
	}
	return nil
}
