package embedded_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/influx/influxtest"
)

// BenchmarkOpen opens a directory with 100,000 series over eight hours.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := open(b, embedded.Options{Dir: dir})
	influxtest.CreateSchema(b, s)
	now := time.Now()
	all := make([]influx.Series, 100_000)
	for i := range all {
		all[i] = influx.NewSeries(fmt.Sprint("stat_", i%10), influx.Tag{Key: "host", Value: fmt.Sprint("host", i/10)})
	}
	for h := range 8 {
		points := make([]influx.Point, 0, 4*len(all))
		for k := range 4 {
			for _, series := range all {
				points = append(points, influx.Point{Series: series, Fields: []influx.Field{{Key: series.Measurement(), Value: float64(k)}},
					Time: now.Add(-time.Duration(h)*time.Hour - time.Duration(k)*time.Minute).UnixNano()})
			}
		}
		write(b, s, points)
	}
	s.Close()
	for b.Loop() {
		s, err := embedded.Open(embedded.Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
		s.Close()
		b.StartTimer()
	}
}
