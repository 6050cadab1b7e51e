// Package influxtest tests that every influx.Store behaves in the same way: one suite runs on the
// embedded engine and on real servers.
package influxtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/projector/influx"
)

// RunSuite runs every case on a new store. open returns an empty store (without the database), and
// closes it when the test ends.
func RunSuite(t *testing.T, open func(t *testing.T) influx.Store) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"ping", testPing},
		{"missing schema", testMissingSchema},
		{"flush", testFlush},
		{"write and read", testWriteRead},
		{"overwrite", testOverwrite},
		{"awkward bytes", testAwkwardBytes},
		{"unstorable points", testUnstorable},
		{"beyond retention", testBeyondRetention},
		{"field type conflict", testTypeConflict},
		{"altered policy", testAlteredPolicy},
		{"large batch", testLargeBatch},
		{"normalised values", testNormalised},
		{"parameters", testParameters},
		{"injection", testInjection},
		{"bad statements", testBadStatements},
		{"read", testRead},
		{"read refuses", testReadRefuses},
		{"read ends", testReadEnds},
		{"cancelled", testCancelled},
		{"concurrent", testConcurrent},
		{"closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, &bench{T: t, store: open(t)})
		})
	}
}

// bench holds the store of one case and the helper methods of all cases.
type bench struct {
	*testing.T
	store influx.Store
}

// now returns the middle of an hour that one_day always holds.
func now() time.Time { return time.Now().Truncate(time.Hour).Add(-90 * time.Minute) }

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	b.Cleanup(cancel)
	return ctx
}

// CreateSchema makes the same schema as the migrations.
func CreateSchema(tb testing.TB, store influx.Store) {
	tb.Helper()
	for _, statement := range []string{
		`CREATE DATABASE "statistics" WITH DURATION 8h REPLICATION 1 NAME "one_day"`,
		`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 1w REPLICATION 1`,
	} {
		if _, err := store.Query(tb.Context(), statement, nil); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}

func (b *bench) createSchema() {
	b.Helper()
	CreateSchema(b, b.store)
}

// write stores points in one_day and fails unless the store takes all of them.
func (b *bench) write(points ...influx.Point) {
	b.Helper()
	if res := b.writeTo(influx.PolicyRaw, points); res != (influx.WriteResult{}) {
		b.Fatalf("write: %+v", res)
	}
}

func (b *bench) writeTo(policy influx.Policy, points []influx.Point) influx.WriteResult {
	b.Helper()
	res, err := b.store.Write(b.ctx(), policy, points)
	if err != nil {
		b.Fatalf("write: %v", err)
	}
	return res
}

func (b *bench) query(statement string, params map[string]any) []models.Row {
	b.Helper()
	rows, err := b.store.Query(b.ctx(), statement, params)
	if err != nil {
		b.Fatalf("%s: %v", statement, err)
	}
	return rows
}

// value returns the only value of a column in an answer of one row.
func (b *bench) value(statement, column string, params map[string]any) any {
	b.Helper()
	rows := b.query(statement, params)
	if len(rows) != 1 || len(rows[0].Values) != 1 {
		b.Fatalf("%s: %d series, expected one row: %v", statement, len(rows), rows)
	}
	for i, name := range rows[0].Columns {
		if name == column {
			return rows[0].Values[0][i]
		}
	}
	b.Fatalf("%s: no column %q in %v", statement, column, rows[0].Columns)
	return nil
}

// wantError fails unless err is an *influx.Error of the kind.
func (b *bench) wantError(what string, err error, kind influx.Kind) {
	b.Helper()
	if e, ok := err.(*influx.Error); !ok || e.Kind != kind {
		b.Fatalf("%s: error %v (%T), expected kind %v", what, err, err, kind)
	}
}

// point returns a reading: its field is named like its measurement.
func point(stat string, at time.Time, value float64, tags ...influx.Tag) influx.Point {
	return influx.Point{
		Series: influx.NewSeries(stat, tags...),
		Fields: []influx.Field{{Key: stat, Value: value}},
		Time:   at.UnixNano(),
	}
}

func host(n int) influx.Tag { return influx.Tag{Key: "host", Value: fmt.Sprintf("host%d", n)} }
