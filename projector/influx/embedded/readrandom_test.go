//go:build !race

// The engine itself writes the types of a subquery's fields while others of its goroutines read
// them, which is a race without a consequence: each writes the same.

package embedded_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/influxql"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/influx/influxtest"
)

// selects makes SELECTs of all kinds, most of them without much sense.
type selects struct{ *rand.Rand }

func (s selects) one(of ...string) string { return of[s.IntN(len(of))] }

func (s selects) maybe(text string) string {
	if s.IntN(3) == 0 {
		return text
	}
	return ""
}

func (s selects) field() string {
	return s.one("cpu", "ram", "x", "*", "/c.*/", "host", "nothing", `"cpu"::float`, `"host"::tag`, "*::field", "*::tag", "m", "time")
}

func (s selects) expr(deep int) string {
	f := s.one("mean", "count", "sum", "min", "max", "first", "last", "median", "mode", "spread", "stddev", "distinct", "integral", "elapsed", "derivative",
		"difference", "non_negative_derivative", "cumulative_sum", "moving_average", "top", "bottom", "percentile", "sample", "holt_winters", "abs", "ln", "pow", "round",
		"chande_momentum_oscillator", "exponential_moving_average", "kaufmans_efficiency_ratio", "triple_exponential_derivative", "relative_strength_index", "histogram")
	arg := s.field()
	if s.IntN(2) == 0 { // one that is right
		arg = s.one("cpu", "ram", "*", "/c.*/")
		return s.one("mean", "count", "sum", "min", "max", "first", "last", "median", "mode", "spread", "stddev") + "(" + arg + ")"
	}
	if deep > 0 && s.IntN(3) == 0 {
		arg = s.expr(deep - 1)
	}
	switch {
	case s.IntN(4) == 0:
		return s.field()
	case s.IntN(6) == 0:
		return s.expr(deep-1) + s.one(" + ", " / ", " * ", " - ", " % ", " & ") + s.one("2", "0", "0.5", s.field(), arg)
	}
	return f + "(" + arg + s.one("", "", ", 2", ", 99.5", ", 1s", ", host, 2", ", 3, 2", ", 0") + ")"
}

func (s selects) source(deep int) string {
	if deep > 0 && s.IntN(3) == 0 {
		return "(" + s.statement(deep-1) + ")"
	}
	return s.one("cpu", "ram", "nothing", "/.*/", "/c.*|nothing/", `"one_week".aggregate`, `"one_week"./.*/`, "/^$/")
}

func (s selects) statement(deep int) string {
	fields := []string{s.expr(1) + s.maybe(" AS m")}
	for s.IntN(3) == 0 {
		fields = append(fields, s.expr(1))
	}
	sources := []string{s.source(deep)}
	for s.IntN(3) == 0 {
		sources = append(sources, s.source(deep))
	}
	return "SELECT " + strings.Join(fields, ", ") + " FROM " + strings.Join(sources, ", ") +
		s.one("", " WHERE time > now() - 3h", " WHERE host = 'host1'", " WHERE cpu > 1 OR ram < 0.5", " WHERE host =~ /host[12]/ AND time < now()", " WHERE nothing = 'x'", " WHERE x != '' AND host !~ /2/") +
		s.one("", " GROUP BY host", " GROUP BY *", " GROUP BY time(10m)", " GROUP BY time(10m, 3m), host", " GROUP BY /h.*/", " GROUP BY time(1h), *") +
		s.maybe(s.one(" fill(none)", " fill(0)", " fill(linear)", " fill(previous)")) + s.maybe(" ORDER BY time DESC") + s.maybe(" LIMIT 3") + s.maybe(" OFFSET 1") +
		s.maybe(" SLIMIT 1") + s.maybe(" tz('Europe/Berlin')")
}

// No SELECT ends the process: within limits, beyond them, and interrupted at any moment. The engine
// makes a SELECT's parts on goroutines of its own, where nobody recovers a panic.
func TestReadOfAnything(t *testing.T) {
	for _, cursors := range []int{0, 12} {
		store, err := embedded.Open(embedded.Options{Dir: t.TempDir(), ReadCursors: cursors})
		if err != nil {
			t.Fatal(err)
		}
		influxtest.CreateSchema(t, store)
		now := time.Now().Truncate(time.Hour)
		var points []influx.Point
		for i := range 600 {
			for _, stat := range []string{"cpu", "ram"} {
				points = append(points, influx.Point{Series: influx.NewSeries(stat, influx.Tag{Key: "host", Value: fmt.Sprint("host", i%3)}, influx.Tag{Key: "x", Value: fmt.Sprint(i % 2)}),
					Fields: []influx.Field{{Key: stat, Value: float64(i%7) / 3}}, Time: now.Add(-time.Duration(i) * 20 * time.Second).UnixNano()})
			}
		}
		for _, policy := range []influx.Policy{influx.PolicyRaw, influx.PolicyAggregate} {
			if result, err := store.Write(t.Context(), policy, points); err != nil || result != (influx.WriteResult{}) {
				t.Fatal(result, err)
			}
		}
		s := selects{rand.New(rand.NewPCG(1, uint64(cursors)))}
		answered, parsedN := 0, 0
		for range 500 {
			text := s.statement(2)
			q, err := influxql.ParseQuery(text)
			if err != nil {
				continue
			}
			parsedN++
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if s.IntN(4) == 0 {
				ctx, cancel = context.WithTimeout(t.Context(), time.Duration(s.IntN(2000))*time.Microsecond)
			}
			rows := 0
			err = store.Read(ctx, influx.ReadRequest{Statements: q.Statements, Database: influx.Database, ChunkRows: 100}, func(r influx.ReadResult) error {
				if strings.Contains(r.Err, "panic:") {
					t.Logf("%s: %.300s", text, r.Err)
				}
				if rows += len(r.Series); r.Err == "" && rows > 0 {
					answered++
				}
				if rows > 1000 {
					return context.Canceled
				}
				return nil
			})
			cancel()
			if err != nil && influx.KindOf(err) != influx.Temporary {
				t.Errorf("%s: %v", text, err)
			}
		}
		t.Logf("%d statements, %d parts with rows", parsedN, answered)
		if answered < 20 {
			t.Error("too few of them have answers")
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}
