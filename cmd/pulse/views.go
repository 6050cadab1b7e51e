package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/live"
	"github.com/nanopack/pulse/projector/replay"
	"github.com/nanopack/pulse/query"
)

// buildHistory makes the projections into InfluxDB, and what goes over past
// records again for them. Like every projection they have a goroutine and a
// position each, so that a sink that is slow or away delays no other.
func (a *App) buildHistory(registry *prometheus.Registry) error {
	config := a.config
	log := a.log.With("room", "projector")
	source := projector.FromJournal(a.journal)
	rawOptions := influx.RawOptions{
		Store: a.store, EnsureSchema: a.ensureSchema, Retention: migrations.RawRetention, Rejects: a.rejects, Logger: log, Registerer: registry, Now: config.now,
	}
	raw, err := influx.NewRaw(rawOptions)
	if err != nil {
		return err
	}
	missed, err := influx.NewRaw(rawOptions)
	if err != nil {
		return err
	}
	again, err := influx.NewRawReplay(rawOptions, source, a.state.DB)
	if err != nil {
		return err
	}
	aggregates, err := influx.NewAggregates(influx.AggregatesOptions{
		Store: a.store, EnsureSchema: a.ensureSchema, Rejects: a.rejects, Interval: config.AggregateInterval, Retention: config.Retention,
		Journal: source, DB: a.state.DB, Logger: log, Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	a.backlog, err = projector.NewBacklog(projector.BacklogOptions{
		Projection: missed, Journal: source, DB: a.state.DB, Rejects: a.rejects, Logger: log, Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	a.replays, err = replay.New(replay.Options{
		DB: a.state.DB, Targets: []replay.Target{again, influx.NewAggregatesReplay(aggregates)}, Busy: a.backlog.Busy,
		Quiet:  max(2*time.Minute, 3*config.PollInterval),
		Logger: log, Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	a.repairs, a.aggregates = newRepairMetrics(registry), aggregates
	var saveEvery time.Duration
	if config.InfluxAddress == "embedded" {
		saveEvery = checkpointEvery
	}
	a.intoInflux, err = a.runnersOf(registry,
		projector.RunnerOptions{Projection: raw, Backlog: a.backlog, Linger: sinkLinger, SaveEvery: saveEvery},
		projector.RunnerOptions{Projection: aggregates, Linger: sinkLinger, SaveEvery: saveEvery})
	a.runners = a.intoInflux
	return err
}

// startProjections starts them and what goes over past records, and has the
// teardown end them: replays first, since they go through the projections.
func (a *App) startProjections(ctx context.Context) error {
	a.teardown.push("projections", a.drain)
	a.teardown.push("replays", a.replays.Stop)
	if err := a.backlog.Start(); err != nil {
		return err
	}
	for _, r := range a.runners {
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
	return a.replays.Start()
}

// buildViews makes the projections into everything else.
func (a *App) buildViews(index *latest.Latest, registry *prometheus.Registry) (err error) {
	config := a.config
	log := a.log.With("room", "projector")
	a.hub, err = live.NewHub(live.HubOptions{Journal: projector.FromJournal(a.journal), Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	// They cost little while nobody listens, and share what does cost: reading the journal.
	memory := []projector.Projection{index, a.hub}
	if a.journal.OutsideAddr() != nil {
		subjects, err := live.NewNATS(live.NATSOptions{
			Publisher: a.journal.Live(), MaxAge: config.BeatInterval, Logger: log, Registerer: registry, Now: config.now,
		})
		if err != nil {
			return err
		}
		memory = append(memory, subjects)
	}
	back := 2 * max(config.PollInterval, min(a.resumeOverrides(index), time.Hour))
	views := []projector.RunnerOptions{{
		Projection: projector.NewTogether("live", memory...),
		Start:      projector.FromTime(time.Now().Add(-back)),
	}}
	if config.MistAddress != "" {
		decimals := 0
		if config.APICompat == query.Compat02 {
			decimals = 4
		}
		a.mist, err = live.NewMist(live.MistOptions{
			Address: config.MistAddress, Token: config.MistToken, MaxAge: config.BeatInterval, Decimals: decimals,
			Logger: log, Registerer: registry, Now: config.now,
		})
		if err != nil {
			return err
		}
		views = append(views, projector.RunnerOptions{Projection: a.mist, Start: projector.FromEnd()})
	}
	a.alerts, err = kapa.New(kapa.Options{
		DB: a.state.DB, Instance: a.state.Identity, Kapacitor: config.KapacitorAddress, Journal: a.journal,
		Stored: influx.Clean, StoredMeasurement: influx.CleanMeasurement,
		Logger: a.log.With("room", "alerts"), Registerer: registry, Now: config.now,
	})
	if err != nil {
		return err
	}
	if e := a.alerts.Projection(); e != nil {
		views = append(views, projector.RunnerOptions{Projection: evaluator{e}})
	}
	runners, err := a.runnersOf(registry, views...)
	a.runners = slices.Concat(a.runners, runners)
	return err
}

// resumeOverrides tells the index which overrides hold, which began before what it
// reads of the journal, and returns the longest interval of them. The start reads no
// more than two hours for it: relays that come back are polled for all they have.
func (a *App) resumeOverrides(index *latest.Latest) (longest time.Duration) {
	for _, o := range a.ingest.Overrides() {
		for collector, interval := range o.Collectors {
			longest = max(longest, interval)
			for _, relay := range o.Relays {
				index.Override(journal.RelayEvent{Relay: relay, Time: o.Created.UnixNano(), Kind: journal.RelayOverride, Collector: collector,
					Duration: o.Until.Sub(o.Created), Interval: interval, Reason: "override " + o.ID})
			}
		}
	}
	return longest
}

// runnersOf makes a runner of each view.
func (a *App) runnersOf(registry *prometheus.Registry, views ...projector.RunnerOptions) ([]*projector.Runner, error) {
	runners := make([]*projector.Runner, len(views))
	for i, o := range views {
		o.Journal = projector.FromJournal(a.journal)
		o.Positions = a.positions
		o.Rejects, o.Logger, o.Registerer, o.Now = a.rejects, a.log.With("room", "projector"), registry, a.config.now
		var err error
		if runners[i], err = projector.NewRunner(o); err != nil {
			return nil, err
		}
	}
	return runners, nil
}

// evaluator is the built-in evaluator of alerts as a projection that keeps
// state: kapa does not import projector.
type evaluator struct{ *kapa.Evaluator }

func (e evaluator) Begin(_ context.Context, span projector.Span) error {
	e.Reset(span.Position)
	return nil
}

// ensureSchema makes and repairs the schema in InfluxDB. One that is new, or
// was wiped, holds nothing of what the journal does: what is projected into it
// begins again at the journal's first record, and that is on disk before the
// schema is, so that a crash in between forgets nothing.
func (a *App) ensureSchema(ctx context.Context) error {
	// Both projections into InfluxDB come here, at the start at the same time.
	a.schemaMu.Lock()
	defer a.schemaMu.Unlock()
	_, err := migrations.EnsureInflux(ctx, a.store, migrations.Schema{
		Aggregates: a.config.Retention, Missing: func() error { return a.rewindInflux(ctx) },
	}, a.log.With("room", "migrations"))
	a.schemaSeen = a.schemaSeen || err == nil
	return err
}

// lookAtInflux makes the schema in InfluxDB if nothing has since the start. An
// InfluxDB that lost what it had is found by that, and what is to be projected
// is known only then. One that does not answer is left to the next start.
func (a *App) lookAtInflux(ctx context.Context) {
	a.schemaMu.Lock()
	seen := a.schemaSeen
	a.schemaMu.Unlock()
	if seen {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, failingDrainTimeout)
	defer cancel()
	if err := a.ensureSchema(ctx); err != nil {
		a.log.Debug("the schema in InfluxDB is left to the next start", "error", err)
	}
}

// sinkLinger is how long readings may wait for others, so that InfluxDB, which
// fsyncs every write, gets fewer and larger ones.
const sinkLinger = 200 * time.Millisecond

// checkpointEvery is how often the embedded InfluxDB writes what it holds in
// memory to files, and a position is saved behind that: a file for each, and so
// much of the journal is projected again after a crash.
const checkpointEvery = time.Minute

// drain lets every projection reach the journal's end, all at the same time:
// what one of them cannot finish the next start does.
func (a *App) drain(ctx context.Context) error {
	a.lookAtInflux(ctx)
	var group errgroup.Group
	errs := make([]error, len(a.runners)+1)
	group.Go(func() error {
		// What is left of it is on disk and may be hours of work.
		ctx, cancel := context.WithTimeout(ctx, failingDrainTimeout)
		defer cancel()
		errs[len(a.runners)] = a.backlog.Drain(ctx)
		return nil
	})
	for i, r := range a.runners {
		group.Go(func() error {
			errs[i] = drainRunner(ctx, r)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	return errors.Join(errs...)
}

const (
	// drainTimeout leaves time for what is stopped after the projections.
	drainTimeout = stopTimeout - 5*time.Second
	// failingDrainTimeout is for the backlog, and for a projection whose sink is
	// away already: a stop should not take as long as waiting for their end.
	failingDrainTimeout = 2 * time.Second
)
