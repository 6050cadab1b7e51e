package main

import (
	"crypto/tls"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/query"
)

// buildEdges makes this Pulse's end of the link: the one to its hub, or the one to its edges. It makes
// nothing if this Pulse is neither an edge nor a hub.
func (a *App) buildEdges(registry *prometheus.Registry) (err error) {
	config := a.config
	log := a.log.With("room", "link")
	switch {
	case a.edgeListener != nil:
		a.edges, err = link.NewHub(link.HubOptions{
			Listener: a.edgeListener, TLS: a.certificate.tlsConfig(), Journal: a.journal, DB: a.state.DB, Tokens: config.Edges,
			Release: version(), Logger: log, Registerer: registry, Now: config.now,
		})
	case config.HubAddress != "":
		trusted, err := hubTLS(config)
		if err != nil {
			return err
		}
		a.uplink, err = link.NewUplink(link.UplinkOptions{
			Address: config.HubAddress, Edge: config.EdgeName, Token: config.HubToken, TLS: trusted, Journal: a.journal,
			Ask:     query.Asked(a.ingest, a.ingest, log),
			Release: version(), Logger: log, Registerer: registry, Now: config.now,
		})
		return err
	}
	return err
}

// hubTLS is how an edge verifies its hub.
func hubTLS(c *Config) (*tls.Config, error) {
	config, err := command.ClientTLS(true, c.HubCA)
	if err != nil {
		return nil, fmt.Errorf("--hub-ca: %w", err)
	}
	return config, nil
}
