package influxtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
)

// BenchmarkWrite writes readings of 10,000 series in batches of 5,000 into an
// empty store and reports points a second.
func BenchmarkWrite(b *testing.B, store influx.Store) {
	const series, size = 10_000, 5_000
	CreateSchema(b, store)
	all := make([]influx.Series, series)
	for i := range all {
		all[i] = influx.NewSeries(fmt.Sprint("stat_", i%10),
			influx.Tag{Key: "host", Value: fmt.Sprint("host", i/10)}, influx.Tag{Key: "service", Value: "web"})
	}
	start := time.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	points := make([]influx.Point, size)
	fields := make([]influx.Field, size)
	n := 0
	for b.Loop() {
		for i := range points {
			s := all[(n+i)%series]
			fields[i] = influx.Field{Key: s.Measurement(), Value: float64((n+i)%1000) / 10}
			points[i] = influx.Point{Series: s, Fields: fields[i : i+1 : i+1],
				Time: start.Add(time.Duration((n+i)/series) * time.Second).UnixNano()}
		}
		n += size
		if res, err := store.Write(b.Context(), influx.PolicyRaw, points); err != nil || res != (influx.WriteResult{}) {
			b.Fatalf("%+v, %v", res, err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "points/s")
}
