package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/agent"
	"github.com/nanopack/pulse/internal/filelimit"
	"github.com/nanopack/pulse/internal/teardown"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/journal/outside"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/query"
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

// An App is one running server. Data flows one way through it:
//
//	relays ──▶ ingest ──▶ journal ──┬──▶ runner: raw        ──▶ influx store ──┐
//	  ▲           │                 ├──▶ runner: aggregates ──▶ influx store ──┼──▶ query ──▶ HTTP
//	  └── polls ──┘                 ├──▶ runner: live       ──▶ memory ────────┘
//	                                │                       ──▶ NATS subjects, streams of the API
//	                                ├──▶ runner: mist       ──▶ mist
//	                                ├──▶ runner: alerts     ──▶ posts (without Kapacitor)
//	                                └──▶ uplink             ──▶ the hub of an edge
//
// A hub has a second source beside ingest: its edges, which bring their journals' events.
//
// pulse.db (bbolt) holds the registry of ingest, the journal's marker and the
// positions of the runners; opening it is the lock of the data dir.
//
// It starts from sink to source and stops from source to sink. Nothing of it is
// shared between two Apps, so that two can live in one process.
type App struct {
	config   *Config
	log      *slog.Logger
	teardown teardown.Stack

	certificate certificate // nobody's without TLS
	reloadMu    sync.Mutex  // one reload at a time
	running     *Config     // config as reloads have changed it; guarded by reloadMu

	journal *journal.Journal
	clients *outside.Clients // nil without a server
	state   *migrations.State
	store   influx.Store
	rejects *projector.Rejects
	// projections are all that reads the journal, past what goes over it again.
	projections  *projector.Set
	past         *past.Queue
	aggregates   *influx.Aggregates
	repairs      repairMetrics
	meansUntil   atomic.Int64 // before it, aggregates may be means of Pulse 0.2 (ns)
	wiped        wiped        // what an InfluxDB on the network was found to have lost
	mist         *mist.Sink   // nil without --mist-address
	hub          *stream.Hub  // streams for browsers
	alerts       *kapa.Alerts
	ingest       *ingest.Server
	edges        *link.Hub // nil unless this is a hub, as its listener is
	edgeListener net.Listener
	uplink       *link.Uplink // nil unless this is an edge
	query        *query.Server
	hostRelay    *agent.HostRelay // nil without --host-stats
}

// NewApp binds both addresses, opens everything and starts nothing that others
// would notice. What it opened is closed again when it fails. Beside its own metrics it shows those
// of the process that holds it.
func NewApp(ctx context.Context, config *Config, log *slog.Logger, ofProcess ...prometheus.Collector) (_ *App, err error) {
	a := &App{config: config, running: config, log: log}
	defer func() {
		if err == nil {
			return
		}
		if a.ingest != nil {
			err = errors.Join(err, a.ingest.Stop(ctx))
		}
		err = errors.Join(err, a.teardown.Run(ctx))
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(ofProcess...)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	refused := newConnectionsRefused()
	registry.MustRegister(refused)
	httpFarewell, relayFarewell := farewells(config)
	httpListener, err := a.listen("http-listen-address", config.HTTPAddress, httpFarewell, refused)
	if err != nil {
		return nil, err
	}
	relayListener, err := a.listen("server-listen-address", config.RelayAddress, relayFarewell, refused)
	if err != nil {
		return nil, err
	}
	if config.HubListenAddress != "" {
		if a.edgeListener, err = a.listen("hub-listen-address", config.HubListenAddress, "", refused); err != nil {
			return nil, err
		}
	}

	if err := a.openState(); err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if config.usesTLS() {
		pair, err := loadCertificate(config)
		if err != nil {
			return nil, err
		}
		a.certificate.pair.Store(pair)
		tlsConfig = a.certificate.tlsConfig()
	}
	if a.clients, err = outside.New(ctx, a.clientOptions(registry, tlsConfig)); err != nil {
		return nil, fmt.Errorf("--nats-listen-address: %w", err)
	}
	if err := a.openData(ctx, registry); err != nil {
		return nil, err
	}
	ingestOptions := ingest.Options{
		Listener: relayListener, Journal: a.journal, DB: a.state.DB,
		PollInterval: config.PollInterval, BeatInterval: config.BeatInterval, Token: config.RelayToken,
		PastFor: max(config.Retention, config.RawRetention),
		Logger:  log.With("room", "ingest"), Registerer: registry, Now: config.now,
	}
	if config.RelayTLS {
		ingestOptions.TLS = tlsConfig
	}
	if a.ingest, err = ingest.New(ingestOptions); err != nil {
		return nil, err
	}
	if err := a.buildEdges(registry); err != nil {
		return nil, err
	}
	index := latest.New(latest.Options{PollInterval: config.PollInterval, MaxAge: max(latest.DefaultMaxAge, 2*config.PollInterval), Registerer: registry})
	if err := a.buildViews(index, registry); err != nil {
		return nil, err
	}

	queryOptions := query.Options{
		Listener: httpListener, Token: config.Token, ReadToken: config.ReadToken, CORS: config.CORSAllow, Compat: config.APICompat, Version: version(),
		PollInterval: config.PollInterval, AggregateInterval: config.AggregateInterval, Location: config.zone.Location,
		Latest: index, Influx: influxReader{a.store}, InfluxQL: a.store, Windows: a.aggregates, Journal: a.journal, Consumers: a.clients, Projections: projectionsReader{a.projections, a.mist},
		Alerts: a.alerts, Rejects: a.rejects, Replays: a.past.Replays, Backup: a.writeBackup, Damages: a.damages, StateFile: stateDamages(a.state.Damages), Live: liveStreams{a.hub}, Stored: influx.Clean, StoredMeasurement: influx.CleanMeasurement, RawRetention: config.RawRetention, MeansUntil: a.meansUntil.Load,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Logger:  log.With("room", "query"), Registerer: registry, Now: config.now,
	}
	if !config.Insecure {
		queryOptions.TLS = tlsConfig
	}
	queryOptions.Relays, queryOptions.Control = a.ingest, a.ingest
	if a.edges != nil {
		queryOptions.Edges = a.edges
	}
	if a.uplink != nil {
		queryOptions.Uplink = a.uplink
	}
	if a.query, err = query.New(queryOptions); err != nil {
		return nil, err
	}
	return a, nil
}

// listen binds an address. Whoever serves it closes it; the teardown does too,
// for the case that nobody came to serve it.
func (a *App) listen(flag, address, farewell string, refused *prometheus.CounterVec) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	a.teardown.Push("listener of --"+flag, func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	log := a.log.With("listener", flag)
	return filelimit.Listen(l, farewell, refused.WithLabelValues(flag), log), nil
}

// openState opens pulse.db, which is the lock of the data dir.
func (a *App) openState() (err error) {
	a.state, err = migrations.Open(a.config.DataDir, migrations.Options{Logger: a.log})
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	a.teardown.Push("state file", func(context.Context) error { return a.state.Close() })
	return nil
}

// clientOptions say which NATS clients may read the journal.
func (a *App) clientOptions(registry *prometheus.Registry, tlsConfig *tls.Config) outside.Options {
	config := a.config
	o := outside.Options{Logger: a.log.With("room", "journal"), Registerer: registry}
	if config.NATSAddress == "" || config.Token == "" { // a password is required
		return o
	}
	o.Address, o.User, o.Password, o.ReadPassword = config.NATSAddress, "pulse", config.Token, config.ReadToken
	if !config.Insecure {
		o.TLS = tlsConfig
	}
	return o
}

// openData opens the journal and InfluxDB, and makes the projections from the
// one into the other.
func (a *App) openData(ctx context.Context, registry *prometheus.Registry) (err error) {
	config := a.config
	positions := projector.NewPositions(a.state.DB)
	reached, err := positions.Newest()
	if err != nil {
		return err
	}
	journalOptions := journal.Options{
		Dir: filepath.Join(config.DataDir, "journal"), Marker: journal.BoltMarker(a.state.DB), Reached: reached,
		Sync: journal.SyncEvery(config.JournalSync), Retention: config.JournalRetention, MaxBytes: config.JournalMaxBytes,
		SetAside: config.JournalSetAside,
		Logger:   a.log.With("room", "journal"), Registerer: registry,
	}
	if a.clients != nil {
		journalOptions.Outside = a.clients
	}
	a.journal, err = journal.Open(ctx, journalOptions)
	if errors.Is(err, outside.ErrAddress) {
		return fmt.Errorf("--nats-listen-address: %w", err)
	}
	if err != nil {
		return err
	}
	a.teardown.Push("journal", a.journal.Close)
	a.rejects = projector.NewRejects(a.state.DB)
	if a.journal.Report().SetAside != "" {
		if err := positions.Clear(); err != nil {
			return err
		}
	}

	a.store, err = a.openStore()
	if err != nil {
		return err
	}
	a.teardown.Push("influxdb", func(context.Context) error { return a.store.Close() })
	return a.buildHistory(registry)
}

func (a *App) openStore() (influx.Store, error) {
	log := a.log.With("room", "influx")
	if a.config.InfluxAddress == "embedded" {
		return embedded.Open(embedded.Options{Dir: filepath.Join(a.config.DataDir, "influx"), Logger: log})
	}
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: a.config.InfluxAddress})
	if err != nil {
		return nil, fmt.Errorf("--influx-address: %w", err)
	}
	return &watchedStore{Store: store, address: maskPassword(a.config.InfluxAddress), log: log}, nil
}

// Start serves, from sink to source: the relays last, so that what they say
// finds everything in place. What it started is stopped again when it fails.
func (a *App) Start(ctx context.Context) error {
	a.teardown.Push("api", a.query.Stop)
	if a.mist != nil {
		if err := a.mist.Start(); err != nil {
			return errors.Join(err, a.Stop(ctx))
		}
		a.teardown.Push("connection to mist", a.mist.Stop)
	}
	if a.uplink != nil {
		a.uplink.Start()
		a.teardown.Push("link to the hub", a.uplink.Stop)
	}
	a.alerts.Start()
	a.teardown.Push("alerts", a.alerts.Stop)
	err := a.startProjections(ctx)
	a.teardown.Push("relay listener", a.ingest.Stop)
	if a.edges != nil {
		a.teardown.Push("edges", a.edges.Stop)
	}
	if err != nil {
		return errors.Join(err, a.Stop(ctx))
	}
	a.startRepair()
	a.startTakeOver()
	a.query.Start()
	a.ingest.Start()
	if a.edges != nil {
		a.edges.Start()
	}
	if a.config.HostStats {
		if err := a.startHostRelay(); err != nil {
			return errors.Join(err, a.Stop(ctx))
		}
	}
	return nil
}

// startHostRelay connects a relay of this host over the same TCP that every
// relay uses.
func (a *App) startHostRelay() error {
	id, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("--host-stats: %w", err)
	}
	o := relay.Options{Address: a.ingest.Addr().String(), ID: id, Token: a.config.RelayToken, Logger: a.log.With("room", "relay")}
	if a.config.RelayTLS {
		// It is this process at the other end: there is nobody to mistake it for.
		o.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	}
	for _, warning := range agent.Warnings(id, nil) {
		o.Logger.Warn(warning)
	}
	r, err := agent.NewHostRelay(o, nil, agent.Sources{Host: new(hoststats.Options)})
	if err != nil {
		return fmt.Errorf("--host-stats: %w", err)
	}
	a.hostRelay = r
	a.teardown.Push("host stats", func(context.Context) error { return r.Close() })
	return nil
}

// Stop ends everything, from source to sink, and returns all that went wrong
// on the way. It may be called again.
func (a *App) Stop(ctx context.Context) error { return a.teardown.Run(ctx) }
