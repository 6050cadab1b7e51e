package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// adapter writes rows as the program's wiring does.
func adapter(store influx.Store, before func() error) func(context.Context, []migrations.AggregateRow) error {
	return func(ctx context.Context, rows []migrations.AggregateRow) error {
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		points := make([]influx.Point, len(rows))
		for i, row := range rows {
			var tags []influx.Tag
			for k, v := range row.Tags {
				tags = append(tags, influx.Tag{Key: k, Value: v})
			}
			points[i] = influx.Point{Series: influx.NewSeries("aggregate", tags...), Time: row.Time}
			for k, v := range row.Fields {
				points[i].Fields = append(points[i].Fields, influx.Field{Key: k, Value: v})
			}
		}
		_, err := store.Write(ctx, influx.PolicyAggregate, points)
		return err
	}
}

// old writes rows as Pulse 0.2 left them, for two hosts and a range of quarter hours. One host has
// one more tag and one more stat. It adds one row of our own at the end and returns how many rows
// are old.
func old(t *testing.T, store influx.Store, end time.Time, windows int) int {
	t.Helper()
	if _, err := migrations.EnsureInflux(t.Context(), store, migrations.Schema{}, nil); err != nil {
		t.Fatal(err)
	}
	a := influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: "a b"}, influx.Tag{Key: "service", Value: "x=y,z"})
	b := influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: "b"})
	points := []influx.Point{{Series: a, Time: end.UnixNano(), Fields: []influx.Field{
		{Key: "cpu", Value: 2}, {Key: "cpu:count", Value: 3}, {Key: "cpu:sum", Value: 6}, {Key: "cpu:min", Value: 1},
		{Key: "cpu:max", Value: 3}, {Key: "cpu:last", Value: 1}}}}
	for i := range windows {
		at := end.Add(-15 * time.Minute * time.Duration(i+1)).UnixNano()
		points = append(points,
			influx.Point{Series: a, Time: at, Fields: []influx.Field{{Key: "cpu", Value: float64(i)}, {Key: "ram free", Value: 0.5}}},
			influx.Point{Series: b, Time: at, Fields: []influx.Field{{Key: "cpu", Value: float64(-i)}}})
	}
	if res, err := store.Write(t.Context(), influx.PolicyAggregate, points); err != nil || res != (influx.WriteResult{}) {
		t.Fatalf("%+v, %v", res, err)
	}
	return 2 * windows
}

// checkTaken checks that every mean has all five fields, that our own row is unchanged, and that
// there are no new series.
func checkTaken(t *testing.T, store influx.Store, windows int) {
	t.Helper()
	rows := query(t, store, `SELECT "cpu", "cpu:count", "cpu:sum", "cpu:min", "cpu:max", "cpu:last", "ram free:count", "ram free:sum" FROM "statistics"."one_week"."aggregate" GROUP BY *`)
	if len(rows) != 2 || len(rows[0].Values) != windows+1 || len(rows[1].Values) != windows {
		t.Fatalf("%d series: %v", len(rows), rows)
	}
	for s, row := range rows {
		for i, v := range row.Values {
			mean := v[1].(float64)
			want := fmt.Sprint([]any{mean, 1, mean, mean, mean, mean, 1, 0.5})
			switch {
			case s == 0 && i == windows:
				want = fmt.Sprint([]any{2, 3, 6, 1, 3, 1, nil, nil})
			case s == 1:
				want = fmt.Sprint([]any{mean, 1, mean, mean, mean, mean, nil, nil})
			}
			if got := fmt.Sprint(v[1:]); got != want {
				t.Fatalf("series %v, row %d: %s, expected %s", row.Tags, i, got, want)
			}
		}
	}
}

func TestTakeOver(t *testing.T) {
	eachStore(t, func(t *testing.T, store influx.Store) {
		state, err := migrations.Open(t.TempDir(), migrations.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer state.Close()
		const windows = 50
		n := old(t, store, time.Now().Truncate(15*time.Minute), windows)
		writes := 0
		o := migrations.TakeOverOptions{DB: state.DB, Influx: store, Write: adapter(store, func() error { writes++; return nil })}
		if got, err := migrations.TakeOver(t.Context(), o); err != nil || got != n {
			t.Fatalf("%d rows of %d, %v", got, n, err)
		}
		checkTaken(t, store, windows)
		before := writes
		if got, err := migrations.TakeOver(t.Context(), o); err != nil || got != 0 || writes != before {
			t.Errorf("again: %d rows, %d writes more, %v", got, writes-before, err)
		}
		// With a state file that does not know of the take-over, there is nothing left to do.
		fresh, err := migrations.Open(t.TempDir(), migrations.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		o.DB = fresh.DB
		if got, err := migrations.TakeOver(t.Context(), o); err != nil || got != 0 || writes != before {
			t.Errorf("with a fresh state file: %d rows, %d writes more, %v", got, writes-before, err)
		}
		checkTaken(t, store, windows)
	})
}

// A take-over that is interrupted at any write or query continues where it stopped.
func TestTakeOverResumes(t *testing.T) {
	dir := t.TempDir()
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const windows = 30
	n := old(t, store, time.Now().Truncate(15*time.Minute), windows)
	total := 0
	for attempt := 0; ; attempt++ {
		if attempt > 100 {
			t.Fatalf("no end after %d attempts and %d rows", attempt, total)
		}
		state, err := migrations.Open(dir, migrations.Options{}) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		left := 2 // writes before the InfluxDB goes away
		got, err := migrations.TakeOver(t.Context(), migrations.TakeOverOptions{DB: state.DB, Influx: &failing{store, 0},
			Write: adapter(store, func() error {
				if left--; left < 0 {
					return errDown
				}
				return nil
			})})
		total += got
		state.Close()
		if err == nil {
			break
		}
		if !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		if got == 0 {
			t.Fatalf("attempt %d made no progress", attempt)
		}
	}
	if total != n {
		t.Errorf("%d rows in all attempts, expected %d", total, n)
	}
	checkTaken(t, store, windows)

	state, err := migrations.Open(t.TempDir(), migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	for _, fail := range []int{1, 2, 3} {
		o := migrations.TakeOverOptions{DB: state.DB, Influx: &failing{store, fail}, Write: adapter(store, nil)}
		if _, err := migrations.TakeOver(t.Context(), o); !errors.Is(err, errDown) {
			t.Errorf("query %d failed: %v", fail, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := migrations.TakeOver(ctx, migrations.TakeOverOptions{DB: state.DB, Influx: store, Write: adapter(store, nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Rows that somebody may still be writing are left alone until they have settled, even over
// restarts. No row after the moment of the first run is touched.
func TestTakeOverWaitsForTheNewestWindows(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	state, err := migrations.Open(t.TempDir(), migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	const windows = 10
	now := time.Now().Truncate(15 * time.Minute)
	n := old(t, store, now, windows)
	o := migrations.TakeOverOptions{DB: state.DB, Influx: store, Write: adapter(store, nil),
		Settled: 16 * time.Minute, Now: func() time.Time { return now }}
	first, err := migrations.TakeOver(t.Context(), o)
	if !errors.Is(err, migrations.ErrNotSettled) || first == 0 || first >= n {
		t.Fatalf("%d rows of %d at once, %v", first, n, err)
	}
	if again, err := migrations.TakeOver(t.Context(), o); !errors.Is(err, migrations.ErrNotSettled) || again != 0 {
		t.Errorf("%d rows again, %v", again, err)
	}
	// Rows after the first run are ours and complete; TakeOver does not read them.
	later := influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: "later"})
	if _, err := store.Write(t.Context(), influx.PolicyAggregate, []influx.Point{{Series: later, Time: now.UnixNano(), Fields: []influx.Field{{Key: "cpu", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	o.Now = func() time.Time { return now.Add(o.Settled) }
	rest, err := migrations.TakeOver(t.Context(), o)
	if err != nil || first+rest != n {
		t.Errorf("%d rows at first and %d later, of %d; %v", first, rest, n, err)
	}
}

// Without history there is nothing to do, and the next call makes no query.
func TestTakeOverOfNothing(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	state, err := migrations.Open(t.TempDir(), migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if _, err := migrations.EnsureInflux(t.Context(), store, migrations.Schema{}, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		flaky := &failing{store, 2}
		if n, err := migrations.TakeOver(t.Context(), migrations.TakeOverOptions{DB: state.DB, Influx: flaky}); n != 0 || err != nil {
			t.Errorf("%d rows, %v", n, err)
		}
	}
}
