package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

const (
	// A million readings of 10,000 series.
	aggregatesEvents, aggregatesRelays, aggregatesStats = 100_000, 1000, 10
	// aggregatesLeast is how much of the speed of reading and decoding must be left.
	aggregatesLeast  = 0.5
	aggregatesRounds = 3
)

// runAggregates measures how fast a journal is aggregated into windows, compared with only reading
// and decoding it. With a poll a second, all events are in one or two windows. With a poll a
// minute, there is a row to write for every 15 readings.
func (b *bench) runAggregates(ctx context.Context) error {
	for _, poll := range []time.Duration{time.Second, time.Minute} {
		if err := b.compareAggregates(ctx, poll); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compareAggregates(ctx context.Context, poll time.Duration) (err error) {
	f := &fill{events: aggregatesEvents, relays: aggregatesRelays, stats: aggregatesStats,
		end: time.Now().Truncate(aggregateInterval).UnixNano(), span: aggregatesEvents / aggregatesRelays * poll}
	p, err := b.openPast(ctx, "aggregates", f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(ctx)) }()
	dir := filepath.Join(b.dir, "aggregates-influx")
	var rows int
	best, err := quickest(aggregatesRounds,
		func() (time.Duration, error) { return p.read(ctx, nil) },
		func() (time.Duration, error) { return p.aggregate(ctx, nowhere{}) },
		func() (took time.Duration, err error) {
			store, err := embedded.Open(embedded.Options{Dir: dir})
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, store.Close(), os.RemoveAll(dir)) }()
			if _, err := migrations.EnsureInflux(ctx, store, migrations.Schema{Aggregates: 7 * 24 * time.Hour}, nil); err != nil {
				return 0, err
			}
			if took, err = p.aggregate(ctx, store); err != nil {
				return 0, err
			}
			rows, err = p.counted(ctx, store)
			return took, err
		})
	if err != nil {
		return err
	}
	of := fmt.Sprintf("a million readings of 10k series, polled every %s", poll)
	limit := each(best[0], p.readings) + " read and decoded"
	b.compare("aggregates: "+of+", folded, each", best[0].Seconds()/best[1].Seconds(), aggregatesLeast, each(best[1], p.readings), limit)
	b.compare(fmt.Sprintf("aggregates: the same with the %d rows written into the embedded engine", rows),
		best[0].Seconds()/best[2].Seconds(), aggregatesLeast, each(best[2], p.readings), limit)
	return nil
}

// aggregate aggregates the whole journal, with a new state file, so that no earlier run has an
// effect.
func (p *past) aggregate(ctx context.Context, store influx.Store) (took time.Duration, err error) {
	dir := filepath.Join(p.dir, "state")
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, state.Close(), os.RemoveAll(dir)) }()
	aggregates, err := influx.NewAggregates(influx.AggregatesOptions{Store: store, Interval: aggregateInterval, Retention: 7 * 24 * time.Hour,
		Journal: projector.FromJournal(p.journal), DB: state.DB})
	if err != nil {
		return 0, err
	}
	return p.project(ctx, aggregates)
}

// counted returns the number of rows. It returns an error if a reading is missing in them.
func (p *past) counted(ctx context.Context, store influx.Store) (rows int, err error) {
	answer, err := store.Query(ctx, `SELECT count("stat_0:count"), sum("stat_0:count") FROM "one_week"."aggregate"`, nil)
	if err != nil || len(answer) == 0 {
		return 0, fmt.Errorf("no row was stored: %w", err)
	}
	n, _ := answer[0].Values[0][1].(float64)
	sum, _ := answer[0].Values[0][2].(float64)
	if int(sum) != p.readings/aggregatesStats {
		return 0, fmt.Errorf("the rows count %v readings of stat_0, not %d", sum, p.readings/aggregatesStats)
	}
	return int(n), nil
}

// nowhere accepts every write and stores nothing.
type nowhere struct{}

func (nowhere) Flush(context.Context, influx.Policy) error { return nil }
func (nowhere) Ping(context.Context) (string, error)       { return "nowhere", nil }
func (nowhere) Write(context.Context, influx.Policy, []influx.Point) (influx.WriteResult, error) {
	return influx.WriteResult{}, nil
}
func (nowhere) Query(context.Context, string, map[string]any) ([]models.Row, error) { return nil, nil }
func (nowhere) Read(context.Context, influx.ReadRequest, func(influx.ReadResult) error) error {
	return nil
}
func (nowhere) Close() error { return nil }
