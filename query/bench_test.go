package query

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
)

// BenchmarkHourly measures GET /hourly over 7 days of 1,000 hosts, beside the same InfluxQL sent
// directly to the same engine. The budget is on the ratio of the two: at least 0.9.
func BenchmarkHourly(b *testing.B) {
	e := newEngine(b, func(o *Options) { o.QueryTimeout = time.Minute })
	first := testNow.Add(-7 * 24 * time.Hour).Truncate(time.Hour)
	var points []influx.Point
	flush := func() {
		if _, err := e.store.Write(context.Background(), influx.PolicyAggregate, points); err != nil {
			b.Fatal(err)
		}
		points = points[:0]
	}
	series := make([]influx.Series, 1000)
	for i := range series {
		series[i] = influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: fmt.Sprint("web", i)})
	}
	for at := first; at.Before(testNow); at = at.Add(15 * time.Minute) {
		for i, s := range series {
			v := float64(i)
			points = append(points, influx.Point{Series: s, Time: at.UnixNano(), Fields: []influx.Field{{Key: "cpu", Value: v},
				{Key: "cpu:count", Value: 15}, {Key: "cpu:sum", Value: 15 * v}, {Key: "cpu:min", Value: v - 1}, {Key: "cpu:max", Value: v + 1},
				{Key: "cpu:last", Value: v}}})
		}
		if len(points) >= 10000 {
			flush()
		}
	}
	flush()
	for _, verb := range []verb{"mean", "max"} {
		b.Run(string(verb)+"/http", func(b *testing.B) {
			for b.Loop() {
				res, err := e.client.Do(tokenRequest(b, e.world, "/hourly/cpu?start=7d&verb="+string(verb)))
				if err != nil {
					b.Fatal(err)
				}
				n, _ := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != http.StatusOK || n < 1000 {
					b.Fatal(res.StatusCode, n)
				}
			}
		})
		b.Run(string(verb)+"/straight", func(b *testing.B) {
			st, err := asked("cpu", nil, time.Hour).between(first.UnixNano(), testNow.UnixNano()).statement(exactPlan(verb).calls)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if rows, err := e.store.Query(context.Background(), st.text, nil); err != nil || len(rows) != 1 {
					b.Fatal(rows, err)
				}
			}
		})
	}
	for _, st := range e.influx.statements() {
		if strings.Contains(st.text, "mean(") {
			b.Fatal("rows of 0.2 were looked for in a database that is full")
		}
	}
}
