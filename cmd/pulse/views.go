package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	"github.com/nanopack/pulse/projector/live"
)

// buildRunners makes the projections: one goroutine and one position each, so
// that a sink that is slow or away delays no other.
func (a *App) buildRunners(index *latest.Latest, registry *prometheus.Registry) error {
	config := a.config
	log := a.log.With("room", "projector")
	raw, err := influx.NewRaw(influx.RawOptions{
		Store: a.store, EnsureSchema: a.ensureSchema, Retention: migrations.RawRetention, Rejects: a.rejects, Logger: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	aggregates, err := influx.NewAggregates(influx.AggregatesOptions{
		Store: a.store, EnsureSchema: a.ensureSchema, Rejects: a.rejects, Interval: config.AggregateInterval, Retention: config.Retention,
		Journal: projector.FromJournal(a.journal), DB: a.state.DB, Logger: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	views := []projector.RunnerOptions{
		{Projection: raw, Linger: sinkLinger},
		{Projection: aggregates, Linger: sinkLinger},
		{Projection: index, Start: projector.FromTime(time.Now().Add(-2 * config.PollInterval))},
	}
	if config.MistAddress != "" {
		a.mist, err = live.NewMist(live.MistOptions{
			Address: config.MistAddress, Token: config.MistToken, MaxAge: config.BeatInterval, Logger: log, Registerer: registry,
		})
		if err != nil {
			return err
		}
		views = append(views, projector.RunnerOptions{Projection: a.mist, Start: projector.FromEnd()})
	}
	a.alerts, err = kapa.New(kapa.Options{
		DB: a.state.DB, Instance: a.state.Identity, Kapacitor: config.KapacitorAddress, Stored: influx.Clean, Journal: a.journal,
		Logger: a.log.With("room", "alerts"), Registerer: registry,
	})
	if err != nil {
		return err
	}
	if e := a.alerts.Projection(); e != nil {
		views = append(views, projector.RunnerOptions{Projection: evaluator{e}})
	}
	for _, o := range views {
		o.Journal = projector.FromJournal(a.journal)
		o.Positions = a.positions
		o.Rejects, o.Logger, o.Registerer = a.rejects, log, registry
		runner, err := projector.NewRunner(o)
		if err != nil {
			return err
		}
		a.runners = append(a.runners, runner)
	}
	a.intoInflux = a.runners[:2]
	return nil
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
	isNew, err := migrations.InfluxIsNew(ctx, a.store)
	if err != nil {
		return err
	}
	if isNew {
		if err := a.rewindInflux(); err != nil {
			return err
		}
	}
	_, err = migrations.EnsureInflux(ctx, a.store, migrations.Schema{Aggregates: a.config.Retention}, a.log.With("room", "migrations"))
	return err
}

// rewindInflux rewinds the projections into InfluxDB, if they had begun.
func (a *App) rewindInflux() error {
	for _, r := range a.intoInflux {
		position, err := a.positions.Load(r.Status().Name)
		if err != nil {
			return err
		}
		if position == 0 {
			continue
		}
		if err := r.Rewind(); err != nil {
			return err
		}
	}
	return nil
}

// sinkLinger is how long readings may wait for others, so that InfluxDB, which
// fsyncs every write, gets fewer and larger ones.
const sinkLinger = 200 * time.Millisecond

// drain lets every projection reach the journal's end, all at the same time:
// what one of them cannot finish the next start does.
func (a *App) drain(ctx context.Context) error {
	var group errgroup.Group
	errs := make([]error, len(a.runners))
	for i, r := range a.runners {
		limit := drainTimeout
		if r.Status().State == projector.StateFailing {
			limit = failingDrainTimeout
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			errs[i] = r.Drain(ctx)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	return errors.Join(errs...)
}

const (
	// drainTimeout leaves time for what is stopped after the projections.
	drainTimeout = stopTimeout - 5*time.Second
	// failingDrainTimeout is for a projection whose sink is away already: a stop
	// during an outage should not take as long as waiting for its end.
	failingDrainTimeout = 2 * time.Second
)
