package influx_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// schema makes the database as the migrations do.
func schema(store influx.Store) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, statement := range []string{
			`CREATE DATABASE "statistics" WITH DURATION 8h REPLICATION 1 NAME "one_day"`,
			`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 1w REPLICATION 1`,
		} {
			if _, err := store.Query(ctx, statement, nil); err != nil {
				return err
			}
		}
		return nil
	}
}

// pipeline runs both projections from a real journal into the InfluxDB engine.
type pipeline struct {
	tb              testing.TB
	journal         *journal.Journal
	store           influx.Store
	db              *bbolt.DB
	raw, aggregates *projector.Runner
}

func newPipeline(tb testing.TB) *pipeline {
	tb.Helper()
	store, err := embedded.Open(embedded.Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	})
	db, err := bbolt.Open(filepath.Join(tb.TempDir(), "pulse.db"), 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &pipeline{tb: tb, journal: journaltest.Open(tb), store: store, db: db}
}

func (p *pipeline) start() {
	p.tb.Helper()
	source := projector.FromJournal(p.journal)
	raw, err := influx.NewRaw(influx.RawOptions{Store: p.store, EnsureSchema: schema(p.store), Retention: 8 * time.Hour})
	if err != nil {
		p.tb.Fatal(err)
	}
	aggregates, err := influx.NewAggregates(influx.AggregatesOptions{Store: p.store, EnsureSchema: schema(p.store), Journal: source, DB: p.db,
		Interval: 15 * time.Minute, Retention: 7 * 24 * time.Hour})
	if err != nil {
		p.tb.Fatal(err)
	}
	for projection, runner := range map[projector.Projection]**projector.Runner{raw: &p.raw, aggregates: &p.aggregates} {
		r, err := projector.NewRunner(projector.RunnerOptions{Projection: projection, Journal: source, Positions: projector.NewPositions(p.db),
			Rejects: projector.NewRejects(p.db), Linger: 20 * time.Millisecond})
		if err != nil {
			p.tb.Fatal(err)
		}
		if err := r.Start(p.tb.Context()); err != nil {
			p.tb.Fatal(err)
		}
		*runner = r
	}
}

func (p *pipeline) drain() {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.tb.Context(), time.Minute)
	defer cancel()
	for _, r := range []*projector.Runner{p.raw, p.aggregates} {
		if err := r.Drain(ctx); err != nil {
			p.tb.Fatal(err)
		}
	}
}

// number runs a statement whose answer is one number.
func (p *pipeline) number(statement string) float64 {
	p.tb.Helper()
	rows, err := p.store.Query(p.tb.Context(), statement, nil)
	if err != nil {
		p.tb.Fatalf("%s: %v", statement, err)
	}
	if len(rows) != 1 || len(rows[0].Values) != 1 {
		p.tb.Fatalf("%s: %+v", statement, rows)
	}
	v, _ := rows[0].Values[0][1].(float64)
	return v
}

// TestJournalToInfluxDB writes events into the real engine, with restarts in between, and compares
// both policies with a count of the events.
func TestJournalToInfluxDB(t *testing.T) {
	p := newPipeline(t)
	rng := rand.New(rand.NewPCG(1, 1))
	n, sum, lowest, highest := 0.0, 0.0, math.Inf(1), math.Inf(-1)
	began := time.Now().Add(-3 * time.Hour)
	for round := range 4 {
		p.start()
		for i := range 300 {
			at := began.Add(time.Duration(round*300+i) * 8 * time.Second)
			if i == 150 {
				at = began.Add(time.Minute + time.Duration(round)*time.Microsecond) // a clock that stepped back
			}
			v := rng.Float64()
			journaltest.Append(t, p.journal, journaltest.Event(fmt.Sprint("web", i%5), at.UnixNano(), "cpu", []string{"service:x", "guy"},
				codec.Stat{ID: "used", Value: v}, codec.Stat{ID: "used", Value: v / 2}, codec.Stat{ID: "idle", Value: 1}))
			n, sum = n+2, sum+v+v/2
			lowest, highest = min(lowest, v/2), max(highest, v)
		}
		if round%2 == 0 {
			p.drain()
		} else {
			p.raw.Stop()
			p.aggregates.Stop()
		}
	}
	p.start()
	p.drain()
	for statement, want := range map[string]float64{
		`SELECT count("used") FROM "statistics"."one_day"."used"`:                               n,
		`SELECT sum("used") FROM "statistics"."one_day"."used"`:                                 sum,
		`SELECT count("idle") FROM "statistics"."one_day"."idle"`:                               n / 2,
		`SELECT count("used") FROM "statistics"."one_day"."used" WHERE "host" = 'web1'`:         n / 5,
		`SELECT sum("used:count") FROM "statistics"."one_week"."aggregate"`:                     n,
		`SELECT sum("used:sum") FROM "statistics"."one_week"."aggregate"`:                       sum,
		`SELECT min("used:min") FROM "statistics"."one_week"."aggregate"`:                       lowest,
		`SELECT max("used:max") FROM "statistics"."one_week"."aggregate" WHERE "service" = 'x'`: highest,
		`SELECT sum("idle:count") FROM "statistics"."one_week"."aggregate"`:                     n / 2,
	} {
		if got := p.number(statement); math.Abs(got-want) > 1e-9*math.Abs(want) {
			t.Errorf("%s\n\tis %v, want %v", statement, got, want)
		}
	}
	for _, r := range []*projector.Runner{p.raw, p.aggregates} {
		if s := r.Status(); s.Lag != 0 || s.Rejected != 0 || s.Failures != 0 || s.Lost != 0 {
			t.Errorf("status %+v", s)
		}
	}
}

// TestSchemaDroppedWhileRunning drops the database under the running projections, as a person who
// cleans up could.
func TestSchemaDroppedWhileRunning(t *testing.T) {
	p := newPipeline(t)
	p.start()
	put := func(i int) {
		journaltest.Append(t, p.journal, journaltest.Event("web1", time.Now().Add(-time.Hour).Add(time.Duration(i)*time.Second).UnixNano(), "cpu", nil,
			codec.Stat{ID: "used", Value: float64(i)}))
	}
	put(1)
	deadline := time.Now().Add(20 * time.Second)
	for p.raw.Status().Applied < 1 || p.aggregates.Status().Applied < 1 {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", p.raw.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := p.store.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
		t.Fatal(err)
	}
	put(2)
	p.drain()
	if n := p.number(`SELECT count("used") FROM "statistics"."one_day"."used"`); n != 1 {
		t.Errorf("%v raw points, want the one written after the drop", n)
	}
	if n := p.number(`SELECT sum("used:count") FROM "statistics"."one_week"."aggregate"`); n != 2 {
		t.Errorf("the window counts %v readings, want 2", n)
	}
}
