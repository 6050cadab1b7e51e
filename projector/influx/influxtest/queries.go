package influxtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
)

// The time is an int64; every other number is a float64, whatever the function.
func testNormalised(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	b.write(point("cpu", at, 3, host(1)), point("cpu", at.Add(time.Minute), 5, host(1)))
	for column, want := range map[string]any{
		"time": at.Truncate(time.Hour).UnixNano(), "count": 2.0, "mean": 4.0, "sum": 8.0, "max": 5.0, "half": 0.5, "stddev": math.Sqrt2,
	} {
		got := b.value(`SELECT count("cpu"), mean("cpu"), sum("cpu"), max("cpu"), mean("cpu") / 8 AS "half", stddev("cpu")`+
			` FROM "statistics"."one_day"."cpu" WHERE time >= $from AND time < $to GROUP BY time(1h)`, column,
			map[string]any{"from": at.Truncate(time.Hour), "to": at.Truncate(time.Hour).Add(time.Hour).UnixNano()})
		if got != want {
			t.Errorf("%s is %v (%T), expected %v (%T)", column, got, got, want, want)
		}
	}
	row := b.query(`SELECT mean("cpu") FROM "statistics"."one_day"."cpu" WHERE time >= $from AND time < $to GROUP BY time(1h)`,
		map[string]any{"from": at.Truncate(time.Hour).Add(-time.Hour), "to": at.Truncate(time.Hour).Add(time.Hour)})[0]
	if len(row.Values) != 2 || row.Values[0][1] != nil || row.Values[1][1] != 4.0 {
		t.Errorf("an empty hour before: %v", row.Values)
	}
	for _, row := range b.query(`SHOW RETENTION POLICIES ON "statistics"`, nil)[0].Values {
		// name, duration, shardGroupDuration, replicaN, default
		name, isName := row[0].(string)
		replicas, isNumber := row[3].(float64)
		standard, isBool := row[4].(bool)
		if !isName || !isNumber || !isBool || replicas != 1 || standard != (name == "one_day") {
			t.Errorf("policy %v: %T %T %T", row, row[0], row[3], row[4])
		}
	}
	if rows := b.query(`SELECT "cpu" FROM "statistics"."one_day"."nothing"`, nil); len(rows) != 0 {
		t.Errorf("rows of a measurement that is not there: %v", rows)
	}
	if got := b.value(`SHOW TAG VALUES ON "statistics" WITH KEY = "host"`, "value", nil); got != "host1" {
		t.Errorf("tag values: %v", got)
	}
}

func testParameters(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	for i, v := range []float64{-1e21, -5, 0, 0.5, 5, 1e21} {
		b.write(point("cpu", at.Add(time.Duration(i)*time.Second), v, host(i)))
	}
	count := func(want float64, where string, params map[string]any) {
		t.Helper()
		got := b.query(`SELECT count("cpu") FROM "statistics"."one_day"."cpu" WHERE `+where, params)
		if want == 0 && len(got) == 0 {
			return
		}
		if len(got) != 1 || got[0].Values[0][1] != want {
			t.Errorf("WHERE %s with %v: %v, expected %v", where, params, got, want)
		}
	}
	count(1, `"host" = $host`, map[string]any{"host": "host3"})
	count(2, `"host" = $a OR "host" = $b`, map[string]any{"a": "host3", "b": "host4", "unused": true})
	count(2, `"cpu" < $v`, map[string]any{"v": 0.0})
	count(2, `"cpu" < $v`, map[string]any{"v": -4})
	count(2, `"cpu" <= $v`, map[string]any{"v": int64(-5)})
	count(1, `"cpu" <= $v`, map[string]any{"v": -1e20})
	count(1, `"cpu" > $v`, map[string]any{"v": 1e20})
	count(1, `"cpu" > $v AND "cpu" < $w`, map[string]any{"v": 0.1, "w": 0.75})
	count(3, `time < $t`, map[string]any{"t": at.Add(3 * time.Second)})
	count(3, `time >= $t`, map[string]any{"t": at.Add(3 * time.Second).UnixNano()})

	for what, params := range map[string]map[string]any{
		"missing": nil, "identifier": {"v": map[string]any{"identifier": "cpu"}}, "slice": {"v": []string{"a"}},
		"NaN": {"v": math.NaN()}, "Inf": {"v": math.Inf(-1)}, "nil": {"v": nil}, "duration": {"v": time.Hour},
	} {
		_, err := b.store.Query(b.ctx(), `SELECT "cpu" FROM "statistics"."one_day"."cpu" WHERE "cpu" = $v`, params)
		b.wantError("parameter: "+what, err, influx.Invalid)
	}
}

// A parameter stays a value, whatever it looks like: it selects only the rows that have it, and
// changes nothing.
func testInjection(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	values := []string{
		`x' OR '1'='1`, `x' OR 1=1 --`, `'; DROP DATABASE "statistics"; --`, `x"; DROP DATABASE "statistics"`,
		"$host", `\'; DROP DATABASE "statistics"; --`, "/.*/", "=~ /.*/", "x\ny", `" OR time > 0`, "now()", "*", "true", "1",
		`{"identifier":"host"}`, `'`, `\' OR "host" !~ /x/`, "/* */", "é'", "😀\"'",
	}
	for i, v := range values {
		b.write(point("cpu", at.Add(time.Duration(i)), float64(i), influx.Tag{Key: "host", Value: v}))
	}
	for i, v := range values {
		got := b.value(`SELECT "cpu" FROM "statistics"."one_day"."cpu" WHERE "host" = $host`, "cpu",
			map[string]any{"host": influx.Clean(v)})
		if got != float64(i) {
			t.Errorf("%q selects %v, expected its own %d", v, got, i)
		}
	}
	for _, v := range values {
		if rows := b.query(`SELECT "cpu" FROM "statistics"."one_day"."cpu" WHERE "host" = $host`, map[string]any{"host": v + "?"}); len(rows) != 0 {
			t.Errorf("%q? selects %v", v, rows)
		}
	}
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != float64(len(values)) {
		t.Errorf("%v of %d points are left", n, len(values))
	}
}

func testBadStatements(t *testing.T, b *bench) {
	b.createSchema()
	b.write(point("cpu", now(), 1, host(1)))
	for _, statement := range []string{
		"", ";", "hello", `SELECT`, `SELECT "cpu"`, `SELECT "cpu" FROM "cpu" WHERE`, `SELECT nothing("cpu") FROM "cpu"`,
		`SELECT "cpu" FROM "cpu"; DROP DATABASE "statistics"`, `SELECT "cpu" FROM "cpu"; SELECT "cpu" FROM "cpu"`,
		`SELECT mean("cpu") FROM "statistics"."one_day"."cpu" GROUP BY time(15m, "x")`,
	} {
		_, err := b.store.Query(b.ctx(), statement, nil)
		b.wantError(fmt.Sprintf("statement %q", statement), err, influx.Invalid)
	}
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != 1.0 {
		t.Fatalf("%v points are left", n)
	}
}

// A call stops when its context has ended or ends, returns an error that wraps the context's error,
// and harms no later call.
func testCancelled(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	points := make([]influx.Point, 50_000)
	series := influx.NewSeries("cpu", host(1))
	for i := range points {
		points[i] = influx.Point{Series: series, Fields: []influx.Field{{Key: "cpu", Value: 1}}, Time: at.Add(time.Duration(i) * time.Millisecond).UnixNano()}
	}
	ended, cancel := context.WithCancel(b.ctx())
	cancel()
	for what, call := range map[string]func(context.Context) error{
		"ping":  func(ctx context.Context) error { _, err := b.store.Ping(ctx); return err },
		"write": func(ctx context.Context) error { _, err := b.store.Write(ctx, influx.PolicyRaw, points); return err },
		"query": func(ctx context.Context) error {
			_, err := b.store.Query(ctx, `SELECT "cpu" FROM "statistics"."one_day"."cpu"`, nil)
			return err
		},
	} {
		err := call(ended)
		b.wantError(what, err, influx.Temporary)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v does not wrap context.Canceled", what, err)
		}
		late, cancel := context.WithDeadline(b.ctx(), time.Now().Add(-time.Second))
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v does not wrap context.DeadlineExceeded", what, err)
		}
		cancel()
	}
	b.write(points...)
	heavy := strings.Repeat(`(SELECT "cpu" FROM "statistics"."one_day"."cpu"), `, 40)
	statement := `SELECT stddev("cpu") FROM ` + heavy[:len(heavy)-2] + ` GROUP BY time(1ms) fill(none)`
	soon, cancel := context.WithTimeout(b.ctx(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := b.store.Query(soon, statement, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query cut short: %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("a query with a deadline of 30 ms came back after %v", took)
	}
	if n := b.value(`SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, "count", nil); n != float64(len(points)) {
		t.Errorf("%v points", n)
	}
}

func testClosed(t *testing.T, b *bench) {
	b.createSchema()
	for range 2 {
		if err := b.store.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	_, ping := b.store.Ping(b.ctx())
	_, write := b.store.Write(b.ctx(), influx.PolicyRaw, []influx.Point{point("cpu", now(), 1)})
	_, query := b.store.Query(b.ctx(), `SHOW DATABASES`, nil)
	for what, err := range map[string]error{"ping": ping, "write": write, "query": query} {
		b.wantError(what+" after Close", err, influx.Temporary)
		if !errors.Is(err, influx.ErrClosed) {
			t.Errorf("%s after Close: %v does not wrap ErrClosed", what, err)
		}
	}
}
