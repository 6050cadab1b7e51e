package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestTakeOverOf02 starts Pulse on a database of 0.2.3. Answers contain the old data beside the
// new, the continuous query is removed before a relay connects, and a second start finds nothing to
// do.
func TestTakeOverOf02(t *testing.T) {
	t.Parallel() // it waits most of the time
	influxd := testtools.StartInfluxd(t, testtools.InfluxDB18)
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: influxd.Addr})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, statement := range []string{
		`CREATE DATABASE "statistics"`,
		`CREATE RETENTION POLICY "one_day" ON "statistics" DURATION 8h REPLICATION 1 DEFAULT`,
		`CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 1w REPLICATION 1`,
		`CREATE CONTINUOUS QUERY "aggregate" ON "statistics" BEGIN SELECT mean("stat_1") AS "stat_1" INTO "statistics"."one_week"."aggregate" FROM "statistics"."one_day"."stat_1" GROUP BY time(15m), "host" END`,
	} {
		if _, err := store.Query(t.Context(), statement, nil); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	// Two days of quarter hours that ended three hours ago, value 4.
	host := influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: "old"})
	now := time.Now().UTC()
	end := now.Truncate(time.Hour).Add(-3 * time.Hour)
	const windows = 2 * 24 * 4
	points := make([]influx.Point, windows)
	for i := range points {
		points[i] = influx.Point{Series: host, Time: end.Add(-15 * time.Minute * time.Duration(i+1)).UnixNano(),
			Fields: []influx.Field{{Key: "stat_1", Value: 4}}}
	}
	// At one time of the day there are two means of 0.2, and a window of this release with many
	// readings.
	window := now.Truncate(15 * time.Minute)
	for day := range 3 {
		fields := []influx.Field{{Key: "stat_9", Value: 10}}
		if day == 0 {
			fields = []influx.Field{{Key: "stat_9", Value: 70}, {Key: "stat_9:count", Value: 15}, {Key: "stat_9:sum", Value: 1050}}
		}
		points = append(points, influx.Point{Series: host, Time: window.Local().AddDate(0, 0, -day).UnixNano(), Fields: fields})
	}
	if _, err := store.Write(t.Context(), influx.PolicyAggregate, points); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", influxd.Addr, "-p", "1")
	await(t, s, "the rows of 0.2 completed", time.Minute, func() error {
		rows, err := store.Query(t.Context(), `SELECT sum("stat_1:count"), sum("stat_1:sum"), min("stat_1:min"), max("stat_1:max"), count("stat_1:last") FROM "statistics"."one_week"."aggregate" WHERE "host" = 'old'`, nil)
		if err != nil || len(rows) == 0 {
			return fmt.Errorf("%v, %v", rows, err)
		}
		if got, want := fmt.Sprint(rows[0].Values[0][1:]), fmt.Sprint([]any{windows, 4 * windows, 4, 4, windows}); got != want {
			return fmt.Errorf("count, sum, min, max, last are %s, not %s", got, want)
		}
		return nil
	})
	rows, err := store.Query(t.Context(), "SHOW CONTINUOUS QUERIES", nil)
	if err != nil || strings.Contains(fmt.Sprint(rows), "aggregate") {
		t.Errorf("the continuous query is still there: %v, %v", rows, err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 1, Stats: 2})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "old hours and new ones in one answer", 90*time.Second, func() error {
		var hours []stat
		if err := s.Get("/hourly/stat_1?start=2d", &hours); err != nil {
			return err
		}
		var before, after int
		for _, h := range hours {
			switch at := time.Unix(h.Time, 0); {
			case at.Before(end) && h.Value == 4:
				before++
			case !at.Before(now.Truncate(time.Hour)):
				after++
			}
		}
		if hoursBefore := 48 - 3; before < hoursBefore || after == 0 {
			return fmt.Errorf("%d hours of before (%d expected) and %d of now in %v", before, hoursBefore, after, hours)
		}
		return nil
	})
	var daily map[string]float64
	if err := s.Get("/daily/stat_1?start=3d", &daily); err != nil || len(daily) < 24*4 {
		t.Errorf("/daily: %d quarter hours, %v", len(daily), err)
	}
	equally := func() error {
		var days map[string]float64
		if err := s.Get("/daily/stat_9?start=3d", &days); err != nil || len(days) != 1 || days[window.Local().Format("15:04")] != 30 {
			return fmt.Errorf("%v, %v; expected 30", days, err)
		}
		return nil
	}
	if err := equally(); err != nil {
		t.Errorf("/daily of old and new days: %v", err)
	}
	// A second start changes nothing.
	stopProjected(t, s)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "/daily of old and new days after another start", time.Minute, equally)
	rows, err = store.Query(t.Context(), `SELECT sum("stat_1:count"), count("stat_1") FROM "statistics"."one_week"."aggregate" WHERE "host" = 'old'`, nil)
	if err != nil || len(rows) == 0 || fmt.Sprint(rows[0].Values[0][1:]) != fmt.Sprint([]any{windows, windows}) {
		t.Errorf("after another start: %v, %v", rows, err)
	}
}
