package influxtest

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
)

func testPing(t *testing.T, b *bench) {
	version, err := b.store.Ping(b.ctx())
	if err != nil || !strings.HasPrefix(version, "1.") {
		t.Fatalf("ping: %q, %v", version, err)
	}
}

// testFlush checks that Flush returns nil; then everything that was written is durable.
func testFlush(t *testing.T, b *bench) {
	b.createSchema()
	b.write(point("cpu", now(), 1, host(1)))
	for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
		if err := b.store.Flush(b.ctx(), policy); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// A wiped server refuses calls with the Kind Schema, whether it never had a schema or lost it, and
// whether the database or one policy is missing. After the repair it takes writes again.
func testMissingSchema(t *testing.T, b *bench) {
	points := []influx.Point{point("cpu", now(), 1, host(1))}
	refused := func(what string) {
		t.Helper()
		_, err := b.store.Write(b.ctx(), influx.PolicyRaw, points)
		b.wantError("write without "+what, err, influx.Schema)
	}
	refused("a database")
	_, err := b.store.Query(b.ctx(), `SELECT * FROM "statistics"."one_day"."cpu"`, nil)
	b.wantError("query without a database", err, influx.Schema)
	_, err = b.store.Query(b.ctx(), `SHOW RETENTION POLICIES ON "statistics"`, nil)
	b.wantError("listing policies without a database", err, influx.Schema)

	b.createSchema()
	b.createSchema() // repeating it is no error
	b.write(points...)

	b.query(`DROP RETENTION POLICY "one_day" ON "statistics"`, nil)
	refused("the policy")
	b.query(`CREATE RETENTION POLICY "one_day" ON "statistics" DURATION 8h REPLICATION 1 DEFAULT`, nil)
	b.write(points...)

	b.query(`DROP DATABASE "statistics"`, nil)
	refused("a database")
	b.createSchema()
	b.write(points...)
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != 1.0 {
		t.Fatalf("%v points after the repair", n)
	}
}

func testWriteRead(t *testing.T, b *bench) {
	b.createSchema()
	at := now().Add(123456789 * time.Nanosecond)
	b.write(point("cpu", at, 0.25, host(1), influx.Tag{Key: "service", Value: "web"}),
		point("cpu", at, -7, host(2)),
		point("cpu", at.Add(1), math.MaxFloat64, host(2)),
		point("cpu", at.Add(2), math.SmallestNonzeroFloat64, host(2)))
	b.writeTo(influx.PolicyAggregate, []influx.Point{{
		Series: influx.NewSeries("aggregate", host(1)),
		Fields: []influx.Field{{Key: "cpu", Value: 0.5}, {Key: "cpu:count", Value: 2}, {Key: "cpu:sum", Value: 1}},
		Time:   at.UnixNano(),
	}})

	rows := b.query(`SELECT "cpu" FROM "statistics"."one_day"."cpu" GROUP BY "host", "service"`, nil)
	if len(rows) != 2 || rows[0].Tags["host"] != "host1" || rows[0].Tags["service"] != "web" || rows[0].Name != "cpu" {
		t.Fatalf("rows %v", rows)
	}
	if v := rows[0].Values; len(v) != 1 || v[0][0] != at.UnixNano() || v[0][1] != 0.25 {
		t.Fatalf("host1: %v", v)
	}
	want := []float64{-7, math.MaxFloat64, math.SmallestNonzeroFloat64}
	for i, v := range rows[1].Values {
		if v[0] != at.UnixNano()+int64(i) || v[1] != want[i] {
			t.Fatalf("host2: %v, expected %v at %d", v, want[i], at.UnixNano()+int64(i))
		}
	}
	if len(rows[1].Values) != len(want) {
		t.Fatalf("host2: %v", rows[1].Values)
	}
	row := b.query(`SELECT * FROM "statistics"."one_week"."aggregate"`, nil)[0]
	if got, want := fmt.Sprint(row.Columns, row.Values[0][1:]), "[time cpu cpu:count cpu:sum host] [0.5 2 1 host1]"; got != want {
		t.Fatalf("aggregate: %s, expected %s", got, want)
	}
}

// Points with the same series and time are the same point. Idempotence depends on this.
func testOverwrite(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	p := point("cpu", at, 1, influx.Tag{Key: "b", Value: "2"}, influx.Tag{Key: "a", Value: "1"})
	b.write(p, p)
	b.write(p)
	b.write(point("cpu", at, 5, influx.Tag{Key: "a", Value: "1"}, influx.Tag{Key: "b", Value: "2"}))
	p.Fields = []influx.Field{{Key: "other", Value: 9}}
	b.write(p) // adds another field to the point
	rows := b.query(`SELECT "cpu", "other" FROM "statistics"."one_day"."cpu"`, nil)
	if len(rows) != 1 || len(rows[0].Values) != 1 || rows[0].Values[0][1] != 5.0 || rows[0].Values[0][2] != 9.0 {
		t.Fatalf("rows %v, expected one with 5 and 9", rows)
	}
}

// Awkward strings come back unchanged, or as Clean changes them, at every place of a point and
// through a bound parameter.
var awkward = []string{
	"a b", " lead", "trail ", "a,b", ",", "a=b", "=", "a,b=c d", `say "hi"`, `"`, "it's", `back\slash`, `a\b\c`,
	`C:\`, `\`, `\\`, `\,`, `\ x`, `\=`, `a\\,b`, `\"`, "#first", "a#b", "a#!~#b", "x#!~", "é", "日本語", "🙂", "a\u00a0b",
	"tab\there", "line\nbreak", "nul\x00byte", "del\x7f", "bad\xffutf8", "$x", "%s", "a;b", "--", "/re/", "time", "x:count",
	"_field", "_measurement", "_name", "(", "*", strings.Repeat("long", 300),
}

func testAwkwardBytes(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	for i, s := range awkward {
		series := influx.NewSeries("at value", influx.Tag{Key: "n", Value: fmt.Sprint(i)}, influx.Tag{Key: "v", Value: s})
		b.write(influx.Point{Series: series, Fields: []influx.Field{{Key: "f", Value: float64(i)}}, Time: at.UnixNano()})
		if got := b.value(`SELECT "v", "f" FROM "statistics"."one_day"."at value" WHERE "v" = $v`, "v",
			map[string]any{"v": influx.Clean(s)}); got != influx.Clean(s) {
			t.Errorf("tag value %q came back as %q", s, got)
		}

		series = influx.NewSeries("m"+s, influx.Tag{Key: "k" + s, Value: "v"})
		b.write(influx.Point{Series: series, Fields: []influx.Field{{Key: "f" + s, Value: 1}}, Time: at.UnixNano()})
		rows := b.query(`SELECT * FROM "statistics"."one_day".`+influxql.QuoteIdent(series.Measurement()), nil)
		want := fmt.Sprint([]string{"time", influx.Clean("f" + s), influx.Clean("k" + s)})
		if len(rows) != 1 || rows[0].Name != series.Measurement() || fmt.Sprint(rows[0].Columns) != want {
			t.Errorf("measurement, tag key and field key with %q came back as %v", s, rows)
		}

		series = influx.NewSeries(s, host(i))
		b.write(influx.Point{Series: series, Fields: []influx.Field{{Key: "f", Value: 1}}, Time: at.UnixNano()})
		if strings.HasPrefix(s, "_") {
			continue // InfluxDB may hide measurements with such names
		}
		if got := b.value(`SELECT "f", "host" FROM "statistics"."one_day".`+influxql.QuoteIdent(series.Measurement())+
			` WHERE "host" = $host`, "f", map[string]any{"host": host(i).Value}); got != 1.0 {
			t.Errorf("measurement %q: %v", s, got)
		}
	}
}

// Each bad point or field is refused by itself and counted. The rest of the batch, and the other
// fields of the same point, are stored.
func testUnstorable(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	with := func(fields ...influx.Field) influx.Point {
		return influx.Point{Series: influx.NewSeries("cpu", host(1)), Fields: fields, Time: at.UnixNano()}
	}
	far := point("cpu", at, 1, host(4))
	far.Time = math.MaxInt64
	bad := []influx.Point{
		with(influx.Field{Key: "nan", Value: math.NaN()}),
		with(influx.Field{Key: "inf", Value: math.Inf(1)}, influx.Field{Key: "kept", Value: 2}),
		with(influx.Field{Key: "time", Value: 1}),
		with(influx.Field{Key: "", Value: 1}),
		with(),
		far,
		point("", at, 1),
		point("cpu", at, 1, influx.Tag{Key: "host", Value: strings.Repeat("x", 70_000)}),
	}
	good := point("cpu", at, 3, host(2))
	res := b.writeTo(influx.PolicyRaw, append(append([]influx.Point{good}, bad...), point("cpu", at, 4, host(3))))
	if res.Rejected != len(bad) || res.Dropped != 0 || res.Reason == "" || res.Limit {
		t.Fatalf("%+v, expected %d rejected", res, len(bad))
	}
	rows := b.query(`SELECT "cpu", "kept", "inf", "nan" FROM "statistics"."one_day"."cpu" GROUP BY "host"`, nil)
	if len(rows) != 3 || rows[0].Values[0][2] != 2.0 || rows[1].Values[0][1] != 3.0 || rows[2].Values[0][1] != 4.0 {
		t.Fatalf("rows %v", rows)
	}
	if res := b.writeTo(influx.PolicyRaw, bad[:1]); res.Rejected != 1 {
		t.Fatalf("nothing to store: %+v", res)
	}
	if res := b.writeTo(influx.PolicyRaw, nil); res != (influx.WriteResult{}) {
		t.Fatalf("no points: %+v", res)
	}
}

func testBeyondRetention(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	var points []influx.Point
	for i := range 20 {
		points = append(points, point("cpu", at.Add(time.Duration(-i)*time.Hour), 1, host(1)))
	}
	res := b.writeTo(influx.PolicyRaw, points)
	// The newest point is 90 to 149 minutes old; the policy keeps 8 h.
	if res.Rejected != 0 || res.Dropped < 12 || res.Dropped > 14 {
		t.Fatalf("%+v, expected 12 to 14 dropped", res)
	}
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != float64(20-res.Dropped) {
		t.Fatalf("%v stored of 20 with %d dropped", n, res.Dropped)
	}
}

// A field that holds another client's integers refuses Pulse's floats, shard by shard. All other
// points are stored and counted correctly.
func testTypeConflict(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	for h := range 3 {
		b.write(point("src", at.Add(time.Duration(-h)*time.Hour), 1, host(1)))
	}
	b.query(`SELECT count("src") AS "used" INTO "statistics"."one_day"."mem" FROM "statistics"."one_day"."src"`+
		` WHERE time > now() - 7h GROUP BY time(1h), * fill(none)`, nil)

	var points []influx.Point
	old := 0
	for i := range 60 {
		ago := at.Add(time.Duration(-(i % 3)) * time.Hour).Add(time.Duration(i) * time.Second)
		points = append(points, influx.Point{Series: influx.NewSeries("mem", host(2)),
			Fields: []influx.Field{{Key: "used", Value: 1}}, Time: ago.UnixNano()},
			point("disk", ago, 2, host(2)))
		if i%10 == 0 {
			old++
			points = append(points, point("disk", ago.Add(-48*time.Hour), 2, host(3)))
		}
	}
	res := b.writeTo(influx.PolicyRaw, points)
	if res.Rejected != 60 || res.Dropped != old || !strings.Contains(res.Reason, "type conflict") || res.Limit {
		t.Fatalf("%+v, expected 60 rejected and %d dropped", res, old)
	}
	if n := b.value(`SELECT count("disk") FROM "statistics"."one_day"."disk"`, "count", nil); n != 60.0 {
		t.Fatalf("%v of 60 good points stored", n)
	}
	if _, err := b.store.Write(b.ctx(), influx.PolicyRaw, points[:1]); err != nil {
		t.Fatalf("a refused point alone: %v", err)
	}
}

func testAlteredPolicy(t *testing.T, b *bench) {
	b.createSchema()
	old := []influx.Point{point("cpu", now().Add(-24*time.Hour), 1, host(1))}
	if res := b.writeTo(influx.PolicyRaw, old); res.Dropped != 1 {
		t.Fatalf("%+v, expected 1 dropped", res)
	}
	b.query(`ALTER RETENTION POLICY "one_day" ON "statistics" DURATION 48h`, nil)
	if res := b.writeTo(influx.PolicyRaw, old); res.Dropped != 0 {
		t.Fatalf("%+v after the policy was made longer", res)
	}
	for _, row := range b.query(`SHOW RETENTION POLICIES ON "statistics"`, nil)[0].Values {
		if row[0] == "one_day" && row[1] == "48h0m0s" {
			return
		}
	}
	t.Fatal("the altered policy is not listed with 48h0m0s")
}

func testLargeBatch(t *testing.T, b *bench) {
	b.createSchema()
	const series, each = 250, 100
	at := now()
	points := make([]influx.Point, 0, series*each)
	for s := range series {
		shared := influx.NewSeries("cpu", host(s))
		for i := range each {
			points = append(points, influx.Point{Series: shared, Fields: []influx.Field{{Key: "cpu", Value: float64(i)}},
				Time: at.Add(time.Duration(i) * time.Second).UnixNano()})
		}
	}
	if res := b.writeTo(influx.PolicyRaw, points); res != (influx.WriteResult{}) {
		t.Fatalf("%+v", res)
	}
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != float64(series*each) {
		t.Fatalf("%v of %d stored", n, series*each)
	}
	rows := b.query(`SELECT "cpu" FROM "statistics"."one_day"."cpu"`, nil)
	if len(rows) != 1 || len(rows[0].Values) != series*each {
		t.Fatalf("%d series in the answer, expected one with all points", len(rows))
	}
	if rows := b.query(`SELECT "cpu" FROM "statistics"."one_day"."cpu" GROUP BY "host"`, nil); len(rows) != series {
		t.Fatalf("%d series in the grouped answer", len(rows))
	}
}

func testConcurrent(t *testing.T, b *bench) {
	b.createSchema()
	const writers, rounds, each = 6, 5, 50
	at := now()
	shared := influx.NewSeries("cpu", host(0))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for r := range rounds {
				points := []influx.Point{{Series: shared, Fields: []influx.Field{{Key: "cpu", Value: 1}}, Time: at.UnixNano()}}
				for i := range each - 1 {
					points = append(points, point("cpu", at.Add(time.Duration(r*each+i)*time.Second), 1, host(w+1)))
				}
				if res, err := b.store.Write(b.ctx(), influx.PolicyRaw, points); err != nil || res.Rejected+res.Dropped != 0 {
					t.Errorf("writer %d: %+v, %v", w, res, err)
				}
			}
		})
		wg.Go(func() {
			for range rounds {
				if _, err := b.store.Query(b.ctx(), `SELECT mean("cpu") FROM "statistics"."one_day"."cpu" GROUP BY "host"`, nil); err != nil {
					t.Errorf("reader %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != float64(writers*rounds*(each-1)+1) {
		t.Fatalf("%v points stored", n)
	}
}
