package query

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
)

// BenchmarkRange measures GET /range over 6 hours at a minute by host, for 100 hosts that are polled
// every 10 seconds, beside the same InfluxQL sent directly to the same engine: alone, and as a
// hundred of 100,000 series of the stat. The budgets are on the ratio of the two (at least 0.9) and
// on the 99th percentile (300 ms).
func BenchmarkRange(b *testing.B) {
	for _, others := range []int{0, 99_900} {
		name := "100of100"
		if others > 0 {
			name = "100of100k"
		}
		b.Run(name, func(b *testing.B) { benchmarkRange(b, others) })
	}
}

func benchmarkRange(b *testing.B, others int) {
	e := newEngine(b, func(o *Options) { o.QueryTimeout = time.Minute })
	if _, err := e.store.Query(context.Background(), `CREATE RETENTION POLICY "one_day" ON "statistics" DURATION 0s REPLICATION 1 SHARD DURATION 1h`, nil); err != nil {
		b.Fatal(err)
	}
	var points []influx.Point
	write := func(least int) {
		if len(points) < least {
			return
		}
		if _, err := e.store.Write(context.Background(), influx.PolicyRaw, points); err != nil {
			b.Fatal(err)
		}
		points = points[:0]
	}
	add := func(s influx.Series, at time.Time, v float64) {
		points = append(points, influx.Point{Series: s, Time: at.UnixNano(), Fields: []influx.Field{{Key: "cpu", Value: v}}})
		write(10_000)
	}
	series := func(rack string, i int) influx.Series {
		return influx.NewSeries("cpu", influx.Tag{Key: "host", Value: fmt.Sprint(rack, "-", i)}, influx.Tag{Key: "rack", Value: rack})
	}
	for i := range others { // each hour a reading, so that every shard has them
		for hour := range 6 {
			add(series(fmt.Sprint("r", i/100), i), testNow.Add(-time.Duration(hour)*time.Hour-time.Duration(i)*time.Millisecond), 1)
		}
	}
	for i := range 100 {
		s := series("mine", i)
		for back := 6 * time.Hour; back > 0; back -= 10 * time.Second {
			add(s, testNow.Add(-back), float64(i)+float64(back%7)/8)
		}
	}
	write(1)
	if err := e.store.Flush(context.Background(), influx.PolicyRaw); err != nil {
		b.Fatal(err)
	}
	sel := selection{verb: "mean", by: []string{"host"}, now: testNow, start: 6 * time.Hour, filters: filters{{key: "rack", values: []string{"mine"}}}}
	span, plan := wholeSlots(sel, time.Minute), rawPlan("mean")
	st, err := plan.statement(e.question("cpu", sel, span.from, span.to, time.Minute))
	if err != nil {
		b.Fatal(err)
	}
	measure := func(name string, ask func()) {
		b.Run(name, func(b *testing.B) {
			ask() // warm
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				ask()
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(took[min(len(took)*99/100, len(took)-1)].Seconds()*1e3, "p99-ms")
		})
	}
	measure("http", func() {
		res, err := e.client.Do(tokenRequest(b, e.world, "/range/cpu?start=6h&step=1m&by=host&rack=mine"))
		if err != nil {
			b.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || n < 100*360*10 {
			b.Fatal(res.StatusCode, n)
		}
	})
	measure("straight", func() {
		if rows, err := e.store.Query(context.Background(), st.text, st.params); err != nil || len(rows) != 100 {
			b.Fatal(len(rows), err)
		}
	})
}
