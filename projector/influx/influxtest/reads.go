package influxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
)

// parsed returns the statements of a text.
func parsed(t *testing.T, text string) influxql.Statements {
	t.Helper()
	q, err := influxql.ParseQuery(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return q.Statements
}

// read returns the answer to a text as JSON, a line for each part.
func (b *bench) read(text string, rows int) string {
	b.Helper()
	var out strings.Builder
	err := b.store.Read(b.ctx(), influx.ReadRequest{Statements: parsed(b.T, text), Database: influx.Database, ChunkRows: rows},
		func(part influx.ReadResult) error {
			line, err := json.Marshal(part)
			if err != nil {
				return err
			}
			out.Write(append(line, '\n'))
			return nil
		})
	if err != nil {
		b.Fatalf("%s: %v", text, err)
	}
	return out.String()
}

// The parts of the answers look the same with every store. An error of a statement is in its result.
func testRead(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	for i := range 4 {
		b.write(point("cpu", at.Add(time.Duration(i)*time.Minute), 1.0001*float64(i), host(i%2)))
	}
	stamp := func(minute int) string {
		return at.Add(time.Duration(minute) * time.Minute).UTC().Format(time.RFC3339Nano)
	}
	for _, c := range []struct {
		text string
		rows int
		want string
	}{
		{`SELECT "cpu" FROM "cpu"`, 100, fmt.Sprintf(`{"statement_id":0,"series":[{"name":"cpu","columns":["time","cpu"],"values":[["%s",0],["%s",1.0001],["%s",2.0002],["%s",3.0003]]}]}`,
			stamp(0), stamp(1), stamp(2), stamp(3))},
		{`SELECT "cpu" FROM "cpu" GROUP BY "host"`, 1, fmt.Sprintf(`{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"host0"},"columns":["time","cpu"],"values":[["%s",0]],"partial":true}],"partial":true}
{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"host0"},"columns":["time","cpu"],"values":[["%s",2.0002]]}],"partial":true}
{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"host1"},"columns":["time","cpu"],"values":[["%s",1.0001]],"partial":true}],"partial":true}
{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"host1"},"columns":["time","cpu"],"values":[["%s",3.0003]]}]}`,
			stamp(0), stamp(2), stamp(1), stamp(3))},
		{`SELECT count("cpu") FROM "cpu" WHERE "cpu" > 1.00009 AND "cpu" < 1.00011; SHOW TAG VALUES WITH KEY = "host"`, 100,
			`{"statement_id":0,"series":[{"name":"cpu","columns":["time","count"],"values":[["1970-01-01T00:00:00Z",1]]}]}
{"statement_id":1,"series":[{"name":"cpu","columns":["key","value"],"values":[["host","host0"],["host","host1"]]}]}`},
		{`SHOW MEASUREMENTS ON "statistics"; SELECT * FROM "nothing"; SHOW FIELD KEYS`, 100,
			`{"statement_id":0,"series":[{"name":"measurements","columns":["name"],"values":[["cpu"]]}]}
{"statement_id":1}
{"statement_id":2,"series":[{"name":"cpu","columns":["fieldKey","fieldType"],"values":[["cpu","float"]]}]}`},
		{`SHOW MEASUREMENTS; SELECT "cpu" FROM "nowhere"."one_day"."cpu"`, 100,
			`{"statement_id":0,"series":[{"name":"measurements","columns":["name"],"values":[["cpu"]]}]}
{"statement_id":1,"error":"database not found: nowhere"}`},
	} {
		got := strings.TrimSuffix(b.read(c.text, c.rows), "\n")
		// An error before a statement runs has no number in InfluxDB.
		got = strings.Replace(got, `{"statement_id":0,"error"`, `{"statement_id":1,"error"`, 1)
		if got != c.want {
			t.Errorf("%s\ngives %s\nwant  %s", c.text, got, c.want)
		}
	}
	var first time.Time
	err := b.store.Read(b.ctx(), influx.ReadRequest{Statements: parsed(t, `SELECT "cpu" FROM "cpu" tz('Asia/Kolkata')`), Database: influx.Database, ChunkRows: 10},
		func(part influx.ReadResult) error {
			first = part.Series[0].Values[0][0].(time.Time)
			return nil
		})
	if _, offset := first.Zone(); err != nil || !first.Equal(at) || offset != 19800 {
		t.Errorf("%v, %v", first, err)
	}
}

// Read runs nothing that writes, whoever asks.
func testReadRefuses(t *testing.T, b *bench) {
	b.createSchema()
	b.write(point("cpu", now(), 1, host(1)))
	for _, text := range []string{
		`DROP DATABASE "statistics"`, `SELECT * INTO "copy" FROM "cpu"`, `DELETE FROM "cpu"`, `SHOW DATABASES; DROP MEASUREMENT "cpu"`,
		`SELECT "cpu" FROM (SELECT "cpu" INTO "copy" FROM "cpu")`, `CREATE DATABASE "x"`, `EXPLAIN ANALYZE SELECT * FROM "cpu"`,
		`SHOW USERS`, `SHOW STATS`, `KILL QUERY 1`, `CREATE USER "u" WITH PASSWORD 'p'`,
	} {
		q, err := influxql.ParseQuery(text)
		if err != nil {
			continue // no such text
		}
		err = b.store.Read(b.ctx(), influx.ReadRequest{Statements: q.Statements, Database: influx.Database, ChunkRows: 10},
			func(part influx.ReadResult) error { t.Errorf("%s: %+v", text, part); return nil })
		b.wantError(text, err, influx.Invalid)
		if !errors.Is(err, influx.ErrWrites) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got := b.read(`SHOW MEASUREMENTS`, 10); !strings.Contains(got, `[["cpu"]]`) {
		t.Error(got)
	}
}

// The visitor and the context end a Read, and it harms no later one.
func testReadEnds(t *testing.T, b *bench) {
	b.createSchema()
	at := now()
	series := influx.NewSeries("cpu", host(1))
	points := make([]influx.Point, 20_000)
	for i := range points {
		points[i] = influx.Point{Series: series, Fields: []influx.Field{{Key: "cpu", Value: 1}}, Time: at.Add(time.Duration(i) * time.Millisecond).UnixNano()}
	}
	b.write(points...)
	request := func() influx.ReadRequest {
		return influx.ReadRequest{Statements: parsed(t, `SELECT "cpu" FROM "cpu"; SELECT "cpu" FROM "cpu"`), Database: influx.Database, ChunkRows: 10}
	}
	enough := errors.New("enough")
	parts := 0
	err := b.store.Read(b.ctx(), request(), func(influx.ReadResult) error {
		if parts++; parts == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || parts != 3 {
		t.Errorf("%v after %d parts", err, parts)
	}
	ctx, cancel := context.WithCancel(b.ctx())
	parts = 0
	err = b.store.Read(ctx, request(), func(influx.ReadResult) error {
		parts++
		cancel()
		return nil
	})
	b.wantError("cancelled", err, influx.Temporary)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := b.store.Read(ctx, request(), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := b.read(`SELECT count("cpu") FROM "cpu"`, 10); !strings.Contains(got, "20000") {
		t.Error(got)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Read(b.ctx(), request(), nil); !errors.Is(err, influx.ErrClosed) {
		t.Error(err)
	}
}
