package query

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"

	"github.com/nanopack/pulse/internal/tagfilter"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
)

// Means are between the least and the greatest reading, even if the sum of the readings exceeds a
// float64. This holds in one window, in several windows of an hour, over series and over days. It
// holds with the engine, which answers with infinities, and with an InfluxDB, which refuses to.
// Other hours of the same answer stay exact.
func TestMeansOfHugeReadings(t *testing.T) {
	stores := map[string]func(t *testing.T, e *engine) func(context.Context, string, map[string]any) ([]models.Row, error){
		"embedded": func(_ *testing.T, e *engine) func(context.Context, string, map[string]any) ([]models.Row, error) {
			return e.store.Query
		},
		"external": func(t *testing.T, e *engine) func(context.Context, string, map[string]any) ([]models.Row, error) {
			store, err := influx.OpenExternal(influx.ExternalOptions{Address: testtools.StartInfluxd(t, testtools.InfluxDB18).Addr})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			for _, st := range []string{`CREATE DATABASE "statistics"`, `CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 0s REPLICATION 1`} {
				if _, err := store.Query(t.Context(), st, nil); err != nil {
					t.Fatal(err)
				}
			}
			var points []influx.Point
			for _, r := range e.db.rows {
				p := influx.Point{Series: influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: r.tags["host"]}), Time: r.time}
				for _, k := range slices.Sorted(maps.Keys(r.fields)) {
					p.Fields = append(p.Fields, influx.Field{Key: k, Value: r.fields[k]})
				}
				points = append(points, p)
			}
			if res, err := store.Write(t.Context(), influx.PolicyAggregate, points); err != nil || res != (influx.WriteResult{}) {
				t.Fatal(res, err)
			}
			return store.Query
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, nil)
			hour := testNow.Truncate(time.Hour)
			day := hour.AddDate(0, 0, -1)
			a, b := map[string]string{"host": "a"}, map[string]string{"host": "b"}
			// The aggregates write such a row: its mean is right, and its sum is cut to the limit.
			huge := func(at time.Time, tags map[string]string, stat string, mean, sum, count float64) {
				e.db.rows = append(e.db.rows, aggregateRow{time: at.UnixNano(), tags: tags, fields: map[string]float64{
					stat: mean, stat + ":sum": sum, stat + ":count": count, stat + ":min": mean, stat + ":max": mean, stat + ":last": mean}})
			}
			const most = 1.7976931348623157e308
			huge(hour, a, "cpu", 1e308, most, 32)
			huge(day.Add(15*time.Minute), a, "cpu", 1e308, 1e308, 1)
			huge(day.Add(15*time.Minute), b, "cpu", 1.5e308, most, 3)
			huge(day.Add(30*time.Minute), a, "cpu", -1e308, -1e308, 1)
			e.db.addWindow(day.Add(-time.Hour), a, "cpu", 0.1, 0.2, 0.7)
			e.db.addWindow(day.Add(-time.Hour), b, "cpu", 3)
			for back := range 3 { // at one time of the day
				huge(hour.AddDate(0, 0, -back).Add(-2*time.Hour), a, "ram", 1.6e308, 1.6e308, 1)
				e.db.addOld(hour.AddDate(0, 0, -back).Add(-2*time.Hour), a, "old", -1.7e308)
				e.db.addOld(hour.AddDate(0, 0, -back).Add(-2*time.Hour), b, "old", -1.7e308)
			}
			e.write(t)
			e.influx.query = open(t, e)

			got := map[int64]float64{}
			for _, s := range getJSON[[]stat](t, e.world, "/hourly/cpu?start=2d") {
				got[s.Time] = s.Value
			}
			want := map[int64]float64{hour.Unix(): 1e308, day.Unix(): (1e307 + 4.5e307 - 1e307) / 5 * 10, day.Add(-time.Hour).Unix(): 1}
			if len(got) != len(want) {
				t.Errorf("hours %v, want %v", got, want)
			}
			for at, v := range want {
				if !near(got[at]/v, 1) || v == 1e308 && got[at] != v { // all readings are that
					t.Errorf("the mean of %s is %v, want %v", time.Unix(at, 0).UTC(), got[at], v)
				}
			}
			e.get(t, "/hourly/cpu?start=2d&verb=sum").want(t, 200, fmt.Sprintf(`[{"time":%d,"value":4}]`+"\n", day.Add(-time.Hour).Unix()))
			e.get(t, "/hourly/cpu?start=2d&verb=max&stop=1h").contains(t, 200, `"value":1.5e+308}`)
			for stat, v := range map[string]float64{"ram": 1.6e308, "old": -1.7e308} {
				days := getJSON[map[string]float64](t, e.world, "/daily/"+stat)
				if m, ok := days["08:00"]; len(days) != 1 || !ok || m != v {
					t.Errorf("/daily/%s: %v, want %v", stat, days, v)
				}
			}
		})
	}
}

// A sum or a spread that exceeds a float64 is no value, on /hourly and on /daily. Neither another
// value nor a backfill replaces it. A value that fits into a float64 is given, even if the windows'
// own sums were cut.
func TestWhatIsTooLargeIsNotGiven(t *testing.T) {
	const most = 1.7976931348623157e308
	e := newEngine(t, nil)
	hour := testNow.Truncate(time.Hour).Add(-2 * time.Hour)
	clock := hour.Format("15:04")
	a, b := map[string]string{"host": "a"}, map[string]string{"host": "b"}
	window := func(at time.Time, tags map[string]string, stat string, low, mean, high, sum, count float64) {
		e.db.rows = append(e.db.rows, aggregateRow{time: at.UnixNano(), tags: tags, fields: map[string]float64{
			stat: mean, stat + ":sum": sum, stat + ":count": count, stat + ":min": low, stat + ":max": high, stat + ":last": mean}})
	}
	window(hour, a, "cpu", 1e308, 1e308, 1e308, most, 32)
	window(hour, a, "wild", -1.5e308, 0, 1.5e308, 0, 2)
	// Two days, one of which has no value.
	window(hour, a, "ram", 1e308, 1e308, 1e308, most, 32)
	e.db.addWindow(hour.AddDate(0, 0, -1), a, "ram", 1, 2)
	// One sum was cut, and another one brings the total far below the limit again.
	window(hour, a, "cut", 1e308, 1e308, 1e308, most, 2)
	window(hour, b, "cut", -1.2e308, -1.2e308, -1.2e308, -1.2e308, 1)
	e.write(t)

	const found, none = `[{"time":%d,"value":%v}]` + "\n", "is more than a number can hold"
	one := func(path string, v float64) {
		t.Helper()
		e.get(t, "/hourly/"+path).want(t, 200, fmt.Sprintf(found, hour.Unix(), v))
		days := getJSON[map[string]float64](t, e.world, "/daily/"+path)
		if got, ok := days[clock]; len(days) != 1 || !ok || got != v {
			t.Errorf("/daily/%s: %v, want %v", path, days, v)
		}
	}
	for verb, v := range map[string]float64{"mean": 1e308, "min": 1e308, "max": 1e308, "last": 1e308, "first": 1e308,
		"median": 1e308, "mode": 1e308, "count": 32, "spread": 0} {
		one("cpu?verb="+verb, v)
	}
	for _, path := range []string{"cpu?verb=sum", "wild?verb=spread"} {
		e.get(t, "/hourly/"+path).contains(t, 404, none)
		e.get(t, "/daily/"+path).contains(t, 404, none)
		if hours := getJSON[[]stat](t, e.world, "/hourly/"+path+"&start=4h&backfill=-1"); len(hours) != 4 ||
			slices.ContainsFunc(hours, func(s stat) bool { return s.Time == hour.Unix() || s.Value != -1 }) {
			t.Errorf("/hourly/%s with a backfill: %v", path, hours)
		}
		days := getJSON[map[string]float64](t, e.world, "/daily/"+path+"&backfill=-1")
		if _, ok := days[clock]; ok || len(days) != 95 {
			t.Errorf("/daily/%s with a backfill: %d times, %v", path, len(days), days[clock])
		}
	}
	for verb, v := range map[string]float64{"sum": 8e307, "mean": 8e307 / 3} {
		hours, days := getJSON[[]stat](t, e.world, "/hourly/cut?verb="+verb), getJSON[map[string]float64](t, e.world, "/daily/cut?verb="+verb)
		if len(hours) != 1 || !near(hours[0].Value/v, 1) || !near(days[clock]/v, 1) {
			t.Errorf("the %s of cut is %v and %v, want %v", verb, hours, days, v)
		}
	}
	e.get(t, "/hourly/ram?verb=sum&start=2d").want(t, 200, fmt.Sprintf(found, hour.AddDate(0, 0, -1).Unix(), 3))
	e.get(t, "/daily/ram?verb=sum").contains(t, 404, none)
}

// The statements for such means are checked like all others.
func TestWideStatement(t *testing.T) {
	fs := filters{{key: "host", values: []string{"a", `b' OR 1=1`}, given: 2}}
	st, err := asked("cpu", fs, time.Hour).wideStatement(widePlan{verb: "mean", counted: true})
	if err != nil {
		t.Fatal(err)
	}
	const want = `SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m", "cpu" / 18446744073709551616.0 * "cpu:count" AS "s", "cpu:count" AS "n"` +
		` FROM "statistics"."one_week"."aggregate" WHERE time >= 1 AND time < 2 AND ("host"::tag = $p0 OR "host"::tag = $p1)) WHERE time >= 1 AND time < 2 GROUP BY time(3600s) fill(none)`
	if st.text != want {
		t.Errorf("%s\nwant %s", st.text, want)
	}
	for _, name := range corpus(t) {
		for _, counted := range []bool{false, true} {
			if checkName("", name) != nil || tagfilter.Reserved(name) {
				continue
			}
			q := asked(name, filters{{key: name, values: []string{name}}}, time.Hour)
			q.stored = influx.Clean
			if _, err := q.wideStatement(widePlan{verb: "sum", counted: counted}); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	for _, text := range []string{
		`SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m", "cpu" AS "s", "ram" AS "n" FROM "statistics"."one_week"."aggregate" WHERE time >= 1 AND time < 2) WHERE time >= 1 AND time < 2 GROUP BY time(1s)`,
		`SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m", "cpu" AS "s", "cpu:count" AS "n" FROM "statistics"."one_day"."cpu" WHERE time >= 1 AND time < 2) WHERE time >= 1 AND time < 2 GROUP BY time(1s)`,
		`SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM "statistics"."one_week"."aggregate" WHERE time >= 1 AND time < 2 GROUP BY time(1s)`,
		`SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m", "cpu" AS "s", "cpu:count" AS "n" FROM "statistics"."one_week"."aggregate" WHERE time >= 1) WHERE time >= 1 AND time < 2 GROUP BY time(1s)`,
		`SELECT sum("s") AS "c0", sum("n") AS "c1", min("m") AS "c2", max("m") AS "c3" FROM (SELECT "cpu" AS "m", max("cpu") AS "s", max("cpu:count") AS "n" FROM "statistics"."one_week"."aggregate" WHERE time >= 1 AND time < 2) WHERE time >= 1 AND time < 2 GROUP BY time(1s)`,
		`DROP DATABASE "statistics"`,
	} {
		if err := (statement{text: text}).checkWide(asked("cpu", nil, time.Second), []string{"cpu", "cpu:count"}); err == nil {
			t.Errorf("not refused: %s", text)
		}
	}
}
