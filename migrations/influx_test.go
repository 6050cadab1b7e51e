package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// eachStore runs a test with every InfluxDB that Pulse works with.
func eachStore(t *testing.T, run func(t *testing.T, store influx.Store)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		run(t, store)
	})
	for _, version := range []testtools.InfluxDB{testtools.InfluxDB18, testtools.InfluxDB16} {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			server := testtools.StartInfluxd(t, version)
			store, err := influx.OpenExternal(influx.ExternalOptions{Address: server.Addr})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			run(t, store)
		})
	}
}

func query(t *testing.T, store influx.Store, statement string) []models.Row {
	t.Helper()
	rows, err := store.Query(t.Context(), statement, nil)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return rows
}

// policies returns the policies as name/duration/shard duration/default.
func policies(t *testing.T, store influx.Store) string {
	t.Helper()
	var all []string
	for _, row := range query(t, store, `SHOW RETENTION POLICIES ON "statistics"`)[0].Values {
		all = append(all, fmt.Sprintf("%v/%v/%v/%v", row[0], row[1], row[2], row[4]))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

const (
	oneDay  = "one_day/8h0m0s/1h0m0s/true"
	oneWeek = "one_week/168h0m0s/24h0m0s/false"
)

// EnsureInflux changes any present schema to what the flags say, and changes nothing the second
// time.
func TestEnsureInflux(t *testing.T) {
	eachStore(t, func(t *testing.T, store influx.Store) {
		weeks := func(n int) migrations.Schema {
			return migrations.Schema{Aggregates: time.Duration(n) * 168 * time.Hour}
		}
		for _, c := range []struct {
			name   string
			before []string
			schema migrations.Schema
			lines  int
			want   string
		}{
			{"nothing there", nil, weeks(1), 2, oneDay + " " + oneWeek},
			{"nothing to do", nil, weeks(1), 0, oneDay + " " + oneWeek},
			{"more weeks", nil, weeks(12), 1, oneDay + " one_week/2016h0m0s/24h0m0s/false"},
			{"years", nil, weeks(104), 1, oneDay + " one_week/17472h0m0s/168h0m0s/false"},
			{"the default again", nil, migrations.Schema{}, 1, oneDay + " " + oneWeek},
			{"raw for days", nil, migrations.Schema{Raw: 72 * time.Hour}, 1, "one_day/72h0m0s/24h0m0s/true " + oneWeek},
			{"raw for an hour", nil, migrations.Schema{Raw: time.Hour}, 1, "one_day/1h0m0s/1h0m0s/true " + oneWeek},
			{"raw and aggregates", nil, migrations.Schema{Raw: 10 * time.Hour, Aggregates: 2 * 168 * time.Hour}, 2, "one_day/10h0m0s/1h0m0s/true one_week/336h0m0s/24h0m0s/false"},
			{"wiped, with raw for days", []string{`DROP DATABASE "statistics"`}, migrations.Schema{Raw: 72 * time.Hour}, 2, "one_day/72h0m0s/24h0m0s/true " + oneWeek},
			{"all defaults again", nil, migrations.Schema{}, 1, oneDay + " " + oneWeek},
			{"a policy dropped", []string{`DROP RETENTION POLICY "one_week" ON "statistics"`}, weeks(1), 1, oneDay + " " + oneWeek},
			{"kept for ever", []string{`ALTER RETENTION POLICY "one_day" ON "statistics" DURATION 0s SHARD DURATION 168h`}, weeks(1), 1, oneDay + " " + oneWeek},
			{"another default", []string{`CREATE RETENTION POLICY "x" ON "statistics" DURATION 1d REPLICATION 1 DEFAULT`}, weeks(1), 1,
				oneDay + " " + oneWeek + " x/24h0m0s/1h0m0s/false"},
			{"wiped", []string{`DROP DATABASE "statistics"`}, weeks(1), 2, oneDay + " " + oneWeek},
			{"as 0.2 made it", []string{`DROP DATABASE "statistics"`, `CREATE DATABASE "statistics"`,
				`CREATE RETENTION POLICY "one_day" ON "statistics" DURATION 8h REPLICATION 1 DEFAULT`,
				`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 1w REPLICATION 1`,
				`CREATE CONTINUOUS QUERY "aggregate" ON "statistics" BEGIN SELECT mean("cpu") AS "cpu" INTO "statistics"."one_week"."aggregate" FROM "statistics"."one_day"."cpu" GROUP BY time(15m), "host" END`,
			}, weeks(1), 1, ""},
		} {
			for _, statement := range c.before {
				query(t, store, statement)
			}
			lines, err := migrations.EnsureInflux(t.Context(), store, c.schema, nil)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if len(lines) != c.lines {
				t.Errorf("%s: did %q, expected %d things", c.name, lines, c.lines)
			}
			if got := policies(t, store); c.want != "" && got != c.want {
				t.Errorf("%s: policies %s, expected %s", c.name, got, c.want)
			}
			if lines, err := migrations.EnsureInflux(t.Context(), store, c.schema, nil); len(lines) != 0 || err != nil {
				t.Errorf("%s, again: did %q, %v", c.name, lines, err)
			}
		}
		for _, row := range query(t, store, "SHOW CONTINUOUS QUERIES") {
			if len(row.Values) != 0 {
				t.Errorf("continuous queries left: %v", row)
			}
		}
	})
}

func TestEnsureInfluxRefusesAShortRetention(t *testing.T) {
	for _, schema := range []migrations.Schema{{Aggregates: time.Minute}, {Raw: time.Minute}} {
		if _, err := migrations.EnsureInflux(t.Context(), nil, schema, nil); err == nil {
			t.Errorf("%+v was accepted", schema)
		}
	}
}

// failing fails the nth statement, whatever it is.
type failing struct {
	influx.Store
	n int
}

var errDown = errors.New("down")

func (f *failing) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	if f.n--; f.n == 0 {
		return nil, errDown
	}
	return f.Store.Query(ctx, statement, params)
}

// If the InfluxDB fails at any statement, the call fails, and the next call finishes the work.
func TestEnsureInfluxInterrupted(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for n := 1; ; n++ {
		if _, err := store.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
			t.Fatal(err)
		}
		flaky := &failing{store, n}
		_, err := migrations.EnsureInflux(t.Context(), flaky, migrations.Schema{}, nil)
		if flaky.n > 0 {
			if n < 4 || err != nil {
				t.Fatalf("only %d statements were made, %v", n, err)
			}
			return
		}
		if !errors.Is(err, errDown) {
			t.Fatalf("statement %d failed and the call returned %v", n, err)
		}
		if _, err := migrations.EnsureInflux(t.Context(), store, migrations.Schema{}, nil); err != nil {
			t.Fatalf("after statement %d failed: %v", n, err)
		}
		if got := policies(t, store); got != oneDay+" "+oneWeek {
			t.Fatalf("after statement %d failed: %s", n, got)
		}
	}
}

// dropping loses the database before the nth statement.
type dropping struct {
	influx.Store
	n int
}

func (d *dropping) Query(ctx context.Context, statement string, params map[string]any) ([]models.Row, error) {
	if d.n--; d.n == 0 {
		if _, err := d.Store.Query(ctx, `DROP DATABASE "statistics"`, nil); err != nil {
			return nil, err
		}
	}
	return d.Store.Query(ctx, statement, params)
}

// A database that is dropped while EnsureInflux checks its schema is not made again before Missing
// was called: rows that others wrote to it a moment before are lost and have to be written again.
func TestEnsureInfluxSaysWhatIsMissing(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := migrations.EnsureInflux(t.Context(), store, migrations.Schema{}, nil); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		drops := &dropping{store, n}
		said := 0
		schema := migrations.Schema{Missing: func() error {
			if drops.n > 0 {
				t.Errorf("dropped before statement %d: said to be missing while it is there", n)
			}
			said++
			return nil
		}}
		for {
			_, err := migrations.EnsureInflux(t.Context(), drops, schema, nil)
			if err == nil && drops.n <= 0 {
				_, err = migrations.EnsureInflux(t.Context(), drops, schema, nil) // the drop may have come last
			}
			if err == nil {
				break
			}
		}
		if drops.n > 0 {
			if n < 3 {
				t.Fatalf("only %d statements were made", n)
			}
			return
		}
		if said != 1 {
			t.Errorf("dropped before statement %d: said %d times", n, said)
		}
	}
}

// If Missing returns an error, nothing is made.
func TestEnsureInfluxMakesNothingUnsaid(t *testing.T) {
	store, err := embedded.Open(embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	schema := migrations.Schema{Missing: func() error { return errDown }}
	for _, lost := range []string{`DROP DATABASE "statistics"`, `DROP RETENTION POLICY "one_day" ON "statistics"`, `DROP RETENTION POLICY "one_week" ON "statistics"`} {
		if _, err := migrations.EnsureInflux(t.Context(), store, migrations.Schema{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Query(t.Context(), lost, nil); err != nil {
			t.Fatal(err)
		}
		if lines, err := migrations.EnsureInflux(t.Context(), store, schema, nil); !errors.Is(err, errDown) || len(lines) > 0 {
			t.Errorf("after %s: %v, %v", lost, lines, err)
		}
	}
}
