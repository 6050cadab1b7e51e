package query

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
)

// A row of 0.2 weighs as much as a new row with many readings, both before and after it was taken
// over. If a slot has such rows, all its windows have the same weight: over days, within an hour
// and over several series. Slots without such rows stay exact.
func TestOldRowsWeighAsMuchAsNewOnes(t *testing.T) {
	var until int64
	e := newEngine(t, func(o *Options) { o.MeansUntil = func() int64 { return until } })
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	upgrade := at.Add(-15 * time.Minute) // 08:45
	a, b := map[string]string{"host": "a"}, map[string]string{"host": "b"}
	many := slices.Repeat([]float64{70}, 15)
	// 09:00 has two days of 0.2, and today's window of many readings.
	e.db.addOld(at.AddDate(0, 0, -2), a, "cpu", 10)
	e.db.addOld(at.AddDate(0, 0, -1), a, "cpu", 10)
	e.db.addWindow(at, a, "cpu", many...)
	// The hour of the upgrade has windows of two series from 0.2, then a new window of a single
	// reading and a new one of many.
	e.db.addOld(upgrade.Add(-30*time.Minute), a, "ram", 1)
	e.db.addOld(upgrade.Add(-15*time.Minute), a, "ram", 2)
	e.db.addOld(upgrade.Add(-15*time.Minute), b, "ram", 3)
	e.db.addWindow(upgrade, a, "ram", 6)
	e.db.addWindow(upgrade, b, "ram", slices.Repeat([]float64{8}, 40)...)
	// The windows after that are all exact.
	e.db.addWindow(at, a, "ram", 1)
	e.db.addWindow(at.Add(15*time.Minute), a, "ram", 5, 5, 5)
	e.write(t)

	state, err := migrations.Open(t.TempDir(), migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	o := migrations.TakeOverOptions{DB: state.DB, Influx: e.store, Window: 15 * time.Minute,
		Now: func() time.Time { return upgrade.Add(3 * time.Minute) },
		Write: func(ctx context.Context, rows []migrations.AggregateRow) error {
			var points []influx.Point
			for _, row := range rows {
				p := influx.Point{Series: influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: row.Tags["host"]}), Time: row.Time}
				for key, value := range row.Fields {
					p.Fields = append(p.Fields, influx.Field{Key: key, Value: value})
				}
				points = append(points, p)
			}
			_, err := e.store.Write(ctx, influx.PolicyAggregate, points)
			return err
		}}
	check := func() {
		t.Helper()
		e.get(t, "/daily/cpu").want(t, 200, `{"09:00":30}`+"\n") // (10 + 10 + 70) / 3
		e.get(t, "/daily/cpu?start=10h").want(t, 200, `{"09:00":70}`+"\n")
		e.get(t, "/hourly/ram").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":4},{"time":%d,"value":4}]`+"\n",
			upgrade.Truncate(time.Hour).Unix(), at.Unix())) // (1+2+3+6+8)/5, and (1+5+5+5)/4
	}
	if until, err = migrations.MeansUntil(t.Context(), o); err != nil || until != upgrade.UnixNano() {
		t.Fatal(time.Unix(0, until).UTC(), err)
	}
	check()
	if n, err := migrations.TakeOver(t.Context(), o); err != nil || n != 5 {
		t.Fatal(n, err)
	}
	check()
	e.get(t, "/hourly/ram?verb=max").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":8},{"time":%d,"value":5}]`+"\n", upgrade.Truncate(time.Hour).Unix(), at.Unix()))
	e.get(t, "/hourly/ram?verb=count").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":44},{"time":%d,"value":4}]`+"\n", upgrade.Truncate(time.Hour).Unix(), at.Unix()))
}
