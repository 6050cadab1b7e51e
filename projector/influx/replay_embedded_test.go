package influx_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/past"
)

// rows returns all that is stored of a range under both policies.
func (p *pipeline) rows(from, to time.Time) map[string][]models.Row {
	p.tb.Helper()
	all := make(map[string][]models.Row)
	for _, measurement := range []string{`"one_day"."used"`, `"one_day"."idle"`, `"one_week"."aggregate"`} {
		rows, err := p.store.Query(p.tb.Context(), `SELECT * FROM "statistics".`+measurement+` WHERE time >= $from AND time < $to GROUP BY *`, map[string]any{"from": from, "to": to})
		if err != nil {
			p.tb.Fatal(err)
		}
		all[measurement] = rows
	}
	return all
}

// TestReplayIntoInfluxDB drops the real engine's database, rebuilds an hour of it from the real
// journal, and compares every field. (The test does not delete a range, because InfluxDB's DELETE
// has a data race of its own if a shard has several files.)
func TestReplayIntoInfluxDB(t *testing.T) {
	p := newPipeline(t)
	ctx := t.Context()
	source := projector.FromJournal(p.journal)
	ro := influx.RawOptions{Store: p.store, EnsureSchema: schema(p.store), Retention: 8 * time.Hour}
	var aggregates *influx.Aggregates
	var runners []*projector.Runner
	start := func() {
		raw, err := influx.NewRaw(ro)
		if err != nil {
			t.Fatal(err)
		}
		aggregates, err = influx.NewAggregates(influx.AggregatesOptions{Store: p.store, EnsureSchema: schema(p.store), Journal: source, DB: p.db,
			Interval: time.Minute, Retention: 7 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		runners = nil
		for _, projection := range []projector.Projection{raw, aggregates} {
			r, err := projector.NewRunner(projector.RunnerOptions{Projection: projection, Journal: source, Positions: projector.NewPositions(p.db)})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Start(ctx); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Stop)
			runners = append(runners, r)
		}
	}
	start()
	began := time.Now().Add(-3 * time.Hour).Truncate(time.Hour)
	rng := rand.New(rand.NewPCG(1, 1))
	n := 0
	put := func(at time.Time) {
		n++
		journaltest.Append(t, p.journal, journaltest.Event(fmt.Sprint("web", n%5), at.UnixNano(), "cpu", []string{"service:x", "guy"},
			codec.Stat{ID: "used", Value: rng.NormFloat64()}, codec.Stat{ID: "used", Value: rng.Float64()}, codec.Stat{ID: "idle", Value: 1 / 3.0}))
	}
	for i := range 1200 {
		at := began.Add(time.Duration(i) * 6 * time.Second)
		if i%400 == 399 {
			at = began.Add(30 * time.Minute) // late
		}
		put(at)
	}
	for _, r := range runners {
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	from, to := began.Add(20*time.Minute), began.Add(80*time.Minute)
	was := p.rows(from, to)
	start() // most windows are not in memory now

	raw, err := influx.NewRawPast(ro, source, p.db)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := past.New(past.Options{DB: p.db, Journal: source, View: raw, Targets: []past.Target{influx.NewAggregatesPast(aggregates)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jobs.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if _, err := p.store.Query(ctx, `DROP DATABASE "statistics"`, nil); err != nil {
		t.Fatal(err)
	}
	if err := schema(p.store)(ctx); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(p.rows(from, to), was) {
		t.Fatal("nothing was deleted")
	}
	job, err := jobs.Create(past.Request{Projections: []string{"all"}, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * time.Minute); job.State != past.StateDone; time.Sleep(10 * time.Millisecond) {
		if job, err = jobs.Get(job.ID); err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", job, err)
		}
	}
	if is := p.rows(from, to); !reflect.DeepEqual(is, was) {
		t.Errorf("after the replay the rows are not those from before: %+v", job)
	}
	for _, part := range job.Parts {
		if part.Events != 601 || part.Readings != 3*601 || part.Expired+part.Refused+part.Lost != 0 {
			t.Errorf("%+v", part)
		}
	}
}
