package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal/codec"
)

func dirSize(tb testing.TB, dir string) (n int64) {
	list, err := listBlocks(dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range list {
		fi, err := os.Stat(blockPath(dir, b))
		if err != nil {
			tb.Fatal(err)
		}
		n += fi.Size()
	}
	return n
}

// BenchmarkAppend appends from as many goroutines as there are relays polled together.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []SyncPolicy{SyncAlways(), SyncEvery(time.Second)} {
		for _, n := range []int{1, 16, 256, 4096} {
			b.Run(fmt.Sprintf("sync=%v/goroutines=%d", sync, n), func(b *testing.B) {
				dir := b.TempDir()
				j := open(b, Options{Dir: dir, Sync: sync})
				benchAppend(b, n, func(e *codec.Event) error { _, err := j.Append(context.Background(), e); return err })
				b.StopTimer()
				b.ReportMetric(float64(dirSize(b, filepath.Join(streamDir(dir), "msgs")))/float64(b.N)/10, "B/reading")
			})
		}
	}
}

func benchAppend(b *testing.B, goroutines int, do func(*codec.Event) error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			e := sample(fmt.Sprintf("relay%d", g), g)
			for left.Add(-1) >= 0 {
				e.Time++
				if err := do(e); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkStraight publishes the same events, encoded before, straight to JetStream with
// SyncAlways: in atomic batches, the only group commit that the server has.
func BenchmarkStraight(b *testing.B) {
	for _, size := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			o, err := Options{Dir: dir}.withDefaults()
			if err != nil {
				b.Fatal(err)
			}
			o.serverSyncAlways = true
			run, err := startServer(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer run.stop()
			cfg := streamConfig(o, "x")
			cfg.AllowAtomicPublish = true
			if _, err := run.js.CreateStream(b.Context(), cfg); err != nil {
				b.Fatal(err)
			}
			data, err := codec.EncodeEvent(nil, sample("relay1", 1))
			if err != nil {
				b.Fatal(err)
			}
			inbox := run.nc.NewInbox()
			sub, err := run.nc.SubscribeSync(inbox)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for n := 0; n < b.N; {
				batch := min(size, b.N-n)
				for i := 1; i <= batch; i++ {
					m := &nats.Msg{Subject: codec.ReadingsSubject + "relay1", Data: data, Header: nats.Header{
						"Nats-Batch-Id": {fmt.Sprint(n % 10)}, "Nats-Batch-Sequence": {fmt.Sprint(i)}}}
					if i == batch {
						m.Reply = inbox
						m.Header["Nats-Batch-Commit"] = []string{"1"}
					}
					if err := run.nc.PublishMsg(m); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := sub.NextMsg(10 * time.Second); err != nil {
					b.Fatal(err)
				}
				n += batch
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(dirSize(b, run.msgs))/float64(b.N)/10, "B/reading")
		})
	}
}

// BenchmarkDrain reads and decodes a backlog.
func BenchmarkDrain(b *testing.B) {
	const events = 200_000
	j := open(b, Options{Sync: SyncEvery(time.Second)})
	var wg sync.WaitGroup
	for g := range 500 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range events / 500 {
				if _, err := j.Append(b.Context(), sample(fmt.Sprintf("relay%d", g), i)); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.ReportAllocs()
	for b.Loop() {
		r := from1(b, j, 1)
		for n := 0; n < events; {
			recs, err := r.Read(b.Context(), 1000)
			if err != nil {
				b.Fatal(err)
			}
			n += len(recs)
		}
		_ = r.Close()
	}
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkLatency is the time from Append to the return of a Read that waits, with the fsync in
// it.
func BenchmarkLatency(b *testing.B) {
	for _, sync := range []SyncPolicy{SyncAlways(), SyncEvery(time.Second)} {
		b.Run("sync="+sync.String(), func(b *testing.B) {
			j := open(b, Options{Sync: sync})
			r := from1(b, j, 1)
			e := sample("relay1", 1)
			times := make([]time.Duration, 0, b.N)
			for range b.N {
				start := time.Now()
				go func() {
					if _, err := j.Append(context.Background(), e); err != nil {
						b.Error(err)
					}
				}()
				if _, err := r.Read(b.Context(), 1); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkOpen opens a journal of a million readings after a clean stop and after a kill -9.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	j := open(b, Options{Dir: dir, Sync: SyncEvery(time.Second)})
	var wg sync.WaitGroup
	for g := range 500 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 200 {
				if _, err := j.Append(b.Context(), sample(fmt.Sprintf("relay%d", g), i)); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	closeJournal(b, j)
	for _, stale := range []bool{false, true} {
		b.Run(fmt.Sprintf("stale=%v", stale), func(b *testing.B) {
			for b.Loop() {
				if stale {
					_ = os.Remove(filepath.Join(streamDir(dir), "msgs", "index.db"))
				}
				j, err := Open(b.Context(), Options{Dir: dir, Sync: SyncEvery(time.Second)})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				closeJournal(b, j)
				b.StartTimer()
			}
		})
	}
}
