package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/influxnames"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
)

// takeOverRetry is how long the take-over of a 0.2 database waits after an
// error: InfluxDB is away, or the newest windows have not settled.
const takeOverRetry = 30 * time.Second

// startTakeOver finds where the aggregates of Pulse 0.2 end, and completes them in the background
// until that is done once. The schema comes first, even without relays: otherwise a continuous
// query of 0.2 would overwrite what was completed. The teardown ends it.
func (a *App) startTakeOver() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	a.teardown.Push("take-over of a 0.2 database", func(context.Context) error {
		cancel()
		<-ended
		return nil
	})
	log := a.log.With("room", "migrations")
	o := migrations.TakeOverOptions{
		DB: a.state.DB, Influx: influxReader{a.store}, Write: aggregateWriter(a.store), Settled: a.config.AggregateInterval + 5*time.Minute,
		Window: a.config.AggregateInterval, Logger: log,
	}
	go func() {
		defer close(ended)
		for {
			err := a.projections.EnsureSchema(ctx)
			if err == nil {
				var until int64
				until, err = migrations.MeansUntil(ctx, o)
				a.meansUntil.Store(until)
			}
			if err == nil {
				_, err = migrations.TakeOver(ctx, o)
			}
			if err == nil || ctx.Err() != nil {
				return
			}
			// At debug level, because the projections log what is wrong with InfluxDB.
			log.Log(ctx, slog.LevelDebug, "the take-over of a 0.2 database waits", "for", takeOverRetry, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(takeOverRetry):
			}
		}
	}()
}

// aggregateWriter returns a function that writes aggregates as package migrations has them.
func aggregateWriter(store influx.Store) func(context.Context, []migrations.AggregateRow) error {
	return func(ctx context.Context, rows []migrations.AggregateRow) error {
		points := make([]influx.Point, len(rows))
		for i, row := range rows {
			var tags []influx.Tag
			for key, value := range row.Tags {
				tags = append(tags, influx.Tag{Key: key, Value: value})
			}
			points[i] = influx.Point{Series: influx.NewSeries(influxnames.Aggregate, tags...), Time: row.Time}
			for key, value := range row.Fields {
				points[i].Fields = append(points[i].Fields, influx.Field{Key: key, Value: value})
			}
		}
		for batch := range slices.Chunk(points, 5000) {
			if _, err := store.Write(ctx, influx.PolicyAggregate, batch); err != nil {
				return err
			}
		}
		return store.Flush(ctx, influx.PolicyAggregate) // what was taken over is noted next
	}
}
