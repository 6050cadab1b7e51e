package latest_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector/latest"
)

// fleet returns the events of 10,000 relays with 10 stats each: 100,000 series. A service has 100
// relays, a zone 1,000.
func fleet(at int64) []journal.Record {
	var records []journal.Record
	for i := range 10_000 {
		var stats []codec.Stat
		for s := range 10 {
			stats = append(stats, stat(fmt.Sprint("stat", s), float64(i)))
		}
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: journaltest.Event(fmt.Sprint("host", i), at, "c",
			[]string{fmt.Sprint("service:", i/100), fmt.Sprint("zone:", i/1000)}, stats...)})
	}
	return records
}

// single returns the events of 100,000 relays with one stat: the largest number of series for one
// stat.
func single(at int64) []journal.Record {
	var records []journal.Record
	for i := range 100_000 {
		records = append(records, journal.Record{Seq: uint64(i + 1), Event: journaltest.Event(fmt.Sprint("host", i), at, "c",
			[]string{fmt.Sprint("service:", i/1000), fmt.Sprint("zone:", i/10_000)}, stat("stat0", float64(i)))})
	}
	return records
}

func BenchmarkSelect100k(b *testing.B) {
	l := latest.New(latest.Options{})
	if _, err := l.Apply(b.Context(), single(1)); err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name    string
		filters map[string][]string
		want    int
	}{
		{"host=1", map[string][]string{"host": {"host77"}}, 1},
		{"service=1000", map[string][]string{"service": {"50"}}, 1000},
		{"zone=10000", map[string][]string{"zone": {"5"}}, 10_000},
		{"zone+service=1000", map[string][]string{"zone": {"5"}, "service": {"50"}}, 1000},
		{"all=100000", nil, 100_000},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				n, sum := 0, 0.0
				began := time.Now()
				l.Select("stat0", bb.filters, 1, func(r latest.Reading) { n++; sum += r.Value })
				took = append(took, time.Since(began))
				if n != bb.want {
					b.Fatalf("%d series", n)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkSelectWhileWriting queries with one filter while the fleet's readings are written.
func BenchmarkSelectWhileWriting(b *testing.B) {
	l := latest.New(latest.Options{})
	records := fleet(1)
	if _, err := l.Apply(b.Context(), records); err != nil {
		b.Fatal(err)
	}
	var stop atomic.Bool
	var written atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			for i := 0; i < len(records) && !stop.Load(); i += 500 {
				if _, err := l.Apply(b.Context(), records[i:i+500]); err != nil {
					b.Error(err)
				}
				written.Add(5000)
			}
		}
	}()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		l.Select("stat3", map[string][]string{"service": {"50"}}, 1, func(latest.Reading) {})
		took = append(took, time.Since(began))
	}
	stop.Store(true)
	<-done
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(written.Load())/b.Elapsed().Seconds(), "readings/s")
}

func BenchmarkApply100k(b *testing.B) {
	l := latest.New(latest.Options{})
	records := fleet(1)
	n := 0
	for b.Loop() {
		if _, err := l.Apply(b.Context(), records); err != nil {
			b.Fatal(err)
		}
		n += 100_000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
}
