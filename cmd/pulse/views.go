package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/mist"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/projector/subjects"
	"github.com/nanopack/pulse/query"
)

// buildHistory makes the projections into InfluxDB, and what goes over past
// records again for them.
func (a *App) buildHistory(registry *prometheus.Registry) error {
	config := a.config
	log := a.log.With("room", "projector")
	source := projector.FromJournal(a.journal)
	a.projections = projector.NewSet(projector.SetOptions{
		Journal: source, Positions: projector.NewPositions(a.state.DB), Schema: influxSchema{a},
		Rejects: a.rejects, Logger: log, Registerer: registry, Now: config.now,
	})
	rawOptions := influx.RawOptions{
		Store: a.store, EnsureSchema: a.projections.EnsureSchema, Retention: config.RawRetention,
		Rejects: a.rejects, Logger: log, Registerer: registry, Now: config.now,
	}
	raw, err := influx.NewRaw(rawOptions)
	if err != nil {
		return err
	}
	rawPast, err := influx.NewRawPast(rawOptions, source, a.state.DB)
	if err != nil {
		return err
	}
	a.aggregates, err = influx.NewAggregates(influx.AggregatesOptions{
		Store: a.store, EnsureSchema: a.projections.EnsureSchema, Rejects: a.rejects, Interval: config.AggregateInterval, Retention: config.Retention,
		Journal: source, DB: a.state.DB, Logger: log, Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	a.past, err = past.New(past.Options{
		DB: a.state.DB, Journal: source, View: rawPast, Targets: []past.Target{influx.NewAggregatesPast(a.aggregates)},
		Quiet: max(2*time.Minute, 3*config.PollInterval), Rejects: a.rejects,
		Logger: log, Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	a.projections.AddPast(a.past)
	a.repairs = newRepairMetrics(registry)
	stored := projector.RunnerOptions{Linger: sinkLinger}
	if config.InfluxAddress == "embedded" {
		stored.SaveEvery, stored.SaveReadings = checkpointEvery, checkpointReadings
	}
	rawRunner, aggregatesRunner := stored, stored
	rawRunner.Projection, rawRunner.Backlog = raw, a.past.Backlog
	aggregatesRunner.Projection = a.aggregates
	return errors.Join(a.projections.AddStored(rawRunner), a.projections.AddStored(aggregatesRunner))
}

// startProjections starts them and what goes over past records, and has the
// teardown end them.
func (a *App) startProjections(ctx context.Context) error {
	a.teardown.Push("projections", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, drainTimeout)
		defer cancel()
		return a.projections.Drain(ctx)
	})
	return a.projections.Start(ctx)
}

// buildViews makes the projections into everything else.
func (a *App) buildViews(index *latest.Latest, registry *prometheus.Registry) (err error) {
	config := a.config
	log := a.log.With("room", "projector")
	a.hub, err = stream.NewHub(stream.Options{Journal: projector.FromJournal(a.journal), Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	// They cost little while nobody listens, and share what does cost: reading the journal.
	memory := []projector.Projection{index, a.hub}
	if a.clients.Addr() != nil {
		nats, err := subjects.New(subjects.Options{
			Publisher: a.clients, MaxAge: config.BeatInterval, Logger: log, Registerer: registry, Now: config.now,
		})
		if err != nil {
			return err
		}
		memory = append(memory, nats)
	}
	back := 2 * max(config.PollInterval, min(a.resumeOverrides(index), time.Hour))
	err = a.projections.Add(projector.RunnerOptions{
		Projection: projector.NewTogether("live", memory...),
		Start:      projector.FromTime(time.Now().Add(-back)),
	})
	if err != nil {
		return err
	}
	if config.MistAddress != "" {
		decimals := 0
		if config.APICompat == query.Compat02 {
			decimals = 4
		}
		a.mist, err = mist.New(mist.Options{
			Address: config.MistAddress, Token: config.MistToken, MaxAge: config.BeatInterval, Decimals: decimals,
			Logger: log, Registerer: registry, Now: config.now,
		})
		if err != nil {
			return err
		}
		if err := a.projections.Add(projector.RunnerOptions{Projection: a.mist, Start: projector.FromEnd()}); err != nil {
			return err
		}
	}
	a.alerts, err = kapa.New(kapa.Options{
		DB: a.state.DB, Instance: a.state.Identity, Kapacitor: config.KapacitorAddress, Edges: config.HubListenAddress != "", Journal: pastJournal{a.journal},
		Stored: influx.Clean, StoredMeasurement: influx.CleanMeasurement,
		Logger: a.log.With("room", "alerts"), Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	if e := a.alerts.Projection(); e != nil {
		return a.projections.Add(projector.RunnerOptions{Projection: evaluator{e}})
	}
	return nil
}

// resumeOverrides tells the index which overrides hold, which began before what it
// reads of the journal, and returns the longest interval of them. The start reads no
// more than two hours for it: relays that come back are polled for all they have.
func (a *App) resumeOverrides(index *latest.Latest) (longest time.Duration) {
	for _, o := range a.ingest.Overrides() {
		for collector, interval := range o.Collectors {
			longest = max(longest, interval)
			for _, relay := range o.Relays {
				index.Override(codec.RelayEvent{Relay: relay, Time: o.Created.UnixNano(), Kind: codec.RelayOverride, Collector: collector,
					Duration: o.Until.Sub(o.Created), Interval: interval, Reason: "override " + o.ID})
			}
		}
	}
	return longest
}

// evaluator is the built-in evaluator of alerts as a projection that keeps
// state: kapa does not import projector.
type evaluator struct{ *kapa.Evaluator }

func (e evaluator) Begin(_ context.Context, span projector.Origin) error {
	e.Reset(span.Position)
	return nil
}

// pastJournal is the journal as trials of alerts read it.
type pastJournal struct{ *journal.Journal }

// FirstAt returns the number of the first record that was stored at t or later.
func (p pastJournal) FirstAt(ctx context.Context, t time.Time) (uint64, error) {
	state, err := p.State(ctx)
	if err != nil {
		return 0, err
	}
	return projector.FirstAt(ctx, projector.FromJournal(p.Journal), state, t)
}

// sinkLinger is how long readings may wait for others, so that InfluxDB, which
// fsyncs every write, gets fewer and larger ones.
const sinkLinger = 200 * time.Millisecond

// checkpointEvery is how often the embedded InfluxDB writes what it holds in memory to files, and
// a position is saved after that. checkpointReadings is after how many readings it does so sooner.
// After a crash so much of the journal is projected again: that takes a few seconds.
const (
	checkpointEvery    = 5 * time.Minute
	checkpointReadings = 2_000_000
)

// drainTimeout leaves time for what is stopped after the projections.
const drainTimeout = stopTimeout - 5*time.Second
