package journal

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPaced appends as relays that are polled do: each once a second, at a time of its own,
// while readers follow at the head. b.N is the number of events. It takes b.N/rate seconds,
// so run it with -benchtime 20000x or so, and compare the CPU and the bytes of an event, not the
// ns/op.
func BenchmarkPaced(b *testing.B) {
	for _, c := range []struct {
		relays, rate, readers int
		noTail                bool
	}{
		{100, 100, 0, false}, {1000, 1000, 0, false}, {2000, 2000, 0, false}, {10_000, 10_000, 0, false},
		{2000, 2000, 4, false}, {2000, 2000, 4, true}, {10_000, 10_000, 4, false}, {10_000, 10_000, 4, true},
	} {
		b.Run(fmt.Sprintf("events=%d/readers=%d/tail=%v", c.rate, c.readers, !c.noTail), func(b *testing.B) {
			j := open(b, Options{noTail: c.noTail})
			follow(b, j, c.readers)
			batches, cpu, written := value(b, j.m.batches), ownCPU(b), writtenBytes(b)
			b.ResetTimer()
			took := appendPaced(b, j, c.relays, c.rate)
			b.StopTimer()
			n := float64(b.N)
			b.ReportMetric(float64((ownCPU(b)-cpu).Nanoseconds())/1000/n, "cpu-µs/event")
			b.ReportMetric(float64(writtenBytes(b)-written)/n, "written-B/event")
			b.ReportMetric((value(b, j.m.batches)-batches)/b.Elapsed().Seconds(), "commits/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// appendPaced appends b.N events, and returns how long each append took, sorted.
func appendPaced(b *testing.B, j *Journal, relays, rate int) []time.Duration {
	took := make([]time.Duration, b.N)
	var nth atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	period := time.Duration(relays) * time.Second / time.Duration(rate)
	random := rand.New(rand.NewPCG(1, 1))
	for g := range min(relays, b.N) {
		phase := time.Duration(random.Int64N(int64(period)))
		wg.Go(func() {
			e := sample(fmt.Sprint("web", g), g)
			for i := g; i < b.N; i += relays {
				time.Sleep(time.Until(began.Add(phase + time.Duration(i/relays)*period)))
				e.Time++
				start := time.Now()
				if _, err := j.Append(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
				took[nth.Add(1)-1] = time.Since(start)
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took
}

// follow has readers read everything until the end of the benchmark.
func follow(b *testing.B, j *Journal, readers int) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(func() { cancel(); wg.Wait() })
	for range readers {
		r := from1(b, j, 1)
		wg.Go(func() {
			for {
				if _, err := r.Read(ctx, 1000); err != nil {
					return
				}
			}
		})
	}
}

// writtenBytes is what this process caused to be written to disks. It is 0 where the kernel does
// not tell.
func writtenBytes(tb testing.TB) (n int64) {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "write_bytes: "); ok {
			if _, err := fmt.Sscan(text, &n); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return n
}
