package ingest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// BenchmarkGot turns one got line into one event in a journal that accepts it at once.
func BenchmarkGot(b *testing.B) {
	for _, c := range []struct{ collectors, stats int }{{1, 10}, {10, 1}, {10, 10}, {100, 10}} {
		b.Run(fmt.Sprintf("collectors=%d/stats=%d", c.collectors, c.stats), func(b *testing.B) {
			var names, items []string
			for i := range c.collectors {
				names = append(names, fmt.Sprintf("collector%d:service:web1,guy", i))
				for k := range c.stats {
					items = append(items, fmt.Sprintf("collector%d-stat_%d:%d.25", i, k, i*k))
				}
			}
			s, _ := benchSession(b, Options{Journal: discard{}}, names...)
			line := []byte(strings.Join(items, ","))
			s.got(line)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				s.got(line)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(items)), "ns/reading")
		})
	}
}

// BenchmarkIdleRelay measures the memory of a connected relay with ten collectors, and how long the
// relays take to connect.
func BenchmarkIdleRelay(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("relays=%d", n), func(b *testing.B) {
			for b.Loop() {
				rss, heap, took := idleBytes(b, n)
				b.ReportMetric(rss, "RSS-B/relay")
				b.ReportMetric(heap, "heap-B/relay")
				b.ReportMetric(took.Seconds(), "s-to-connect")
			}
		})
	}
}

// countingJournal accepts everything and counts the readings.
type countingJournal struct{ readings atomic.Uint64 }

func (j *countingJournal) Append(_ context.Context, e *codec.Event) (uint64, error) {
	return j.readings.Add(uint64(e.Readings())), nil
}

func (*countingJournal) Spooled(context.Context, string) (took, past codec.Spool, err error) { return }

func (j *countingJournal) AppendRelayEvent(context.Context, *codec.RelayEvent) (uint64, error) {
	return 0, nil
}

// BenchmarkFleet polls a fleet in the same process every second for the time of the benchmark: one
// iteration is a second.
func BenchmarkFleet(b *testing.B) {
	for _, c := range []struct{ relays, stats int }{{9500, 10}, {2000, 100}} {
		b.Run(fmt.Sprintf("relays=%d/stats=%d", c.relays, c.stats), func(b *testing.B) {
			j := &countingJournal{}
			srv := tcpServer(b, Options{Journal: j, PollInterval: time.Second})
			fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: srv.Addr().String(), N: c.relays, Stats: c.stats})
			defer fleet.Stop()
			if err := fleet.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * time.Second) // until all have connected and been polled
			from, skipped := j.readings.Load(), counterValue(b, srv.env.m.skipped)
			for b.Loop() {
				time.Sleep(time.Second)
			}
			b.ReportMetric(float64(j.readings.Load()-from)/b.Elapsed().Seconds(), "readings/s")
			b.ReportMetric(counterValue(b, srv.env.m.skipped)-skipped, "skipped")
		})
	}
}

// BenchmarkSessions measures what a poll and its answer cost the server's process: its processor
// time and its allocations. The relays are in another process, with ten collectors of one stat each. One iteration is a second.
func BenchmarkSessions(b *testing.B) {
	for _, fsync := range []bool{false, true} {
		for _, c := range []struct {
			relays int
			every  time.Duration
		}{{1000, time.Second}, {10_000, 5 * time.Second}, {10_000, time.Second}} {
			b.Run(fmt.Sprintf("relays=%d/every=%s/fsync=%v", c.relays, c.every, fsync), func(b *testing.B) {
				o := Options{Journal: &countingJournal{}, PollInterval: c.every}
				if fsync {
					o.Journal = openJournal(b)
				}
				srv := tcpServer(b, o)
				otherProcess(b, srv, c.relays)
				time.Sleep(2 * c.every) // until all have been polled
				cpu, mallocs, polls := ownUsage(b), allocations(), counterValue(b, srv.env.m.polls)
				skipped := counterValue(b, srv.env.m.skipped) + counterValue(b, srv.env.m.unanswered)
				for b.Loop() {
					time.Sleep(time.Second)
				}
				polls = counterValue(b, srv.env.m.polls) - polls
				b.ReportMetric(float64(ownUsage(b)-cpu)/float64(time.Microsecond)/polls, "CPU-µs/poll")
				b.ReportMetric(float64(allocations()-mallocs)/polls, "mallocs/poll")
				b.ReportMetric(polls/b.Elapsed().Seconds(), "polls/s")
				b.ReportMetric(counterValue(b, srv.env.m.skipped)+counterValue(b, srv.env.m.unanswered)-skipped, "late")
			})
		}
	}
}

// ownUsage returns the processor time that this process has used.
func ownUsage(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// BenchmarkPoll polls one relay, without the writing to the connection.
func BenchmarkPoll(b *testing.B) {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("collector%d", i))
	}
	s, _ := benchSession(b, Options{Journal: discard{}, PollInterval: time.Hour}, names...)
	s.writing = true // no goroutine writes
	r := s.relay
	b.ReportAllocs()
	for b.Loop() {
		r.mu.Lock()
		r.polling.polledAt, r.polling.asked, r.polling.due = 0, 0, 0
		r.mu.Unlock()
		r.poll()
		s.queue = s.queue[:0]
	}
}

// BenchmarkFleetJournal is BenchmarkFleet with a journal that fsyncs. Lost or skipped readings show
// that the machine is too slow.
func BenchmarkFleetJournal(b *testing.B) {
	for _, c := range []struct{ relays, stats int }{{9500, 10}, {2000, 100}} {
		b.Run(fmt.Sprintf("relays=%d/stats=%d", c.relays, c.stats), func(b *testing.B) {
			srv := tcpServer(b, Options{Journal: openJournal(b), PollInterval: time.Second})
			fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: srv.Addr().String(), N: c.relays, Stats: c.stats})
			defer fleet.Stop()
			if err := fleet.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			from, skipped := counterValue(b, srv.env.m.readings), counterValue(b, srv.env.m.skipped)
			for b.Loop() {
				time.Sleep(time.Second)
			}
			b.ReportMetric((counterValue(b, srv.env.m.readings)-from)/b.Elapsed().Seconds(), "readings/s")
			b.ReportMetric(counterValue(b, srv.env.m.skipped)-skipped, "skipped")
			b.ReportMetric(counterValue(b, srv.env.m.lost), "lost")
		})
	}
}
