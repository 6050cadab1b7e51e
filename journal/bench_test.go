package journal

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
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
	cpu := ownCPU(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for g := range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			e := sample(fmt.Sprint("web", g), g)
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
	reportReadings(b, cpu)
}

// reportReadings reports the readings a second, with ten readings an event, and the processor time
// of one reading, including everything in this process.
func reportReadings(b *testing.B, cpuBefore time.Duration) {
	b.StopTimer()
	readings := 10 * float64(b.N)
	b.ReportMetric(readings/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(float64(ownCPU(b)-cpuBefore)/readings, "cpu-ns/reading")
}

// ownCPU returns the processor time that this process has used.
func ownCPU(tb testing.TB) time.Duration {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(self.Utime.Nano() + self.Stime.Nano())
}

// small is an event of ten readings with one tag set: as relays of Pulse 0.2 send them, a collector
// for each stat, or of one collector.
func small(n int, alone bool) *codec.Event {
	const relays = 1000
	e := &codec.Event{Relay: fmt.Sprint("host", n%relays), Time: 1795416970017829163 + int64(n)}
	tags := []string{fmt.Sprint("service:web", n%10)}
	for i := range 10 {
		stat := codec.Stat{ID: fmt.Sprint("stat_", i), Value: float64(n/relays%100) + float64(n%relays)/1e4}
		if i == 0 || alone {
			e.Collectors = append(e.Collectors, codec.Collector{Name: stat.ID, Tags: tags})
		}
		last := &e.Collectors[len(e.Collectors)-1]
		last.Stats = append(last.Stats, stat)
	}
	return e
}

// smallKinds are the kinds of small, with the most bytes of a reading that the blocks may take.
var smallKinds = []struct {
	name  string
	alone bool
	limit float64
}{{"stats=alone", true, 32}, {"stats=together", false, 32}}

// blockBytes appends small events and returns the bytes of a reading in the blocks, with everything
// that the server adds.
func blockBytes(tb testing.TB, events int, alone bool) float64 {
	j := open(tb, Options{Sync: SyncEvery(time.Minute)})
	var wg sync.WaitGroup
	const appenders = 100
	for a := range appenders {
		wg.Go(func() {
			for i := a; i < events; i += appenders {
				if _, err := j.Append(context.Background(), small(i, alone)); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(dirSize(tb, j.runs.current().msgs)) / float64(10*events)
}

func TestBytesOfAReading(t *testing.T) {
	for _, kind := range smallKinds {
		each := blockBytes(t, 5000, kind.alone)
		t.Logf("%s: %.1f bytes a reading", kind.name, each)
		if each > kind.limit {
			t.Errorf("%s: %.1f bytes a reading, at most %v", kind.name, each, kind.limit)
		}
	}
}

func BenchmarkBlockBytes(b *testing.B) {
	for _, kind := range smallKinds {
		b.Run(kind.name, func(b *testing.B) { b.ReportMetric(blockBytes(b, b.N, kind.alone), "B/reading") })
	}
}

// BenchmarkStraight publishes the same events, already encoded, directly to JetStream with
// SyncAlways. It uses atomic batches, the only group commit that the server has. While the batch of
// one publisher is written, the batches of the others come in; more than four publishers make it no
// faster.
func BenchmarkStraight(b *testing.B) {
	const publishers = 4
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
			data, err := codec.EncodeEvent(nil, sample("web1", 1))
			if err != nil {
				b.Fatal(err)
			}
			cpu := ownCPU(b)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range publishers {
				wg.Go(func() {
					nc, err := run.connect("straight")
					if err != nil {
						b.Error(err)
						return
					}
					defer nc.Close()
					for !b.Failed() {
						from := next.Add(int64(size)) - int64(size)
						batch := min(size, b.N-int(from))
						if batch <= 0 {
							return
						}
						if err := publishBatch(nc, fmt.Sprint(from), batch, data); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			reportReadings(b, cpu)
			b.ReportMetric(float64(dirSize(b, run.msgs))/float64(b.N)/10, "B/reading")
			b.ReportMetric(float64(len(data))/10, "event-B/reading")
		})
	}
}

// publishBatch publishes an atomic batch of size messages and returns when it is durable.
func publishBatch(nc *nats.Conn, id string, size int, data []byte) error {
	for i := 1; ; i++ {
		m := &nats.Msg{Subject: codec.ReadingsSubject + "web1", Data: data, Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {fmt.Sprint(i)}}}
		if i < size {
			if err := nc.PublishMsg(m); err != nil {
				return err
			}
			continue
		}
		m.Header["Nats-Batch-Commit"] = []string{"1"}
		answer, err := nc.RequestMsg(m, 30*time.Second)
		if err == nil && !bytes.Contains(answer.Data, fmt.Appendf(nil, `"count":%d`, size)) {
			err = fmt.Errorf("a batch of %d was answered with %s", size, answer.Data)
		}
		return err
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

// BenchmarkLatency measures the time from Append to the return of a waiting Read, including the
// fsync.
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
