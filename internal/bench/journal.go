package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// pushers is how many relays push as fast as the server reads.
	pushers = 2000
	// diskLimit is in bytes a reading, with ten readings a reply.
	diskLimit = 45
)

// sampleEvent is the event of the journal's own benchmarks: ten readings in three collectors.
func sampleEvent() *codec.Event {
	return &codec.Event{Relay: "web1", Time: 1795416970017829163, Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []codec.Stat{
			{ID: "cpu_used", Value: 7}, {ID: "cpu_idle", Value: 99.75}, {ID: "cpu_wait", Value: 0.0312}, {ID: "cpu_steal", Value: 0}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []codec.Stat{
			{ID: "ram_used", Value: 73.5211}, {ID: "ram_free", Value: 26.4789}, {ID: "ram_total", Value: 16777216}}},
		{Name: "disk", Tags: []string{"mount:/"}, Stats: []codec.Stat{
			{ID: "disk_used", Value: 41.2}, {ID: "disk_free", Value: 58.8}, {ID: "disk_inodes", Value: 1.5}}},
	}}
}

// runJournal compares three ways to store the same events: relays that push over TCP into an
// fsynced journal, the journal alone, and JetStream with an fsync for each published event. The
// ways take turns, and the fastest turn of each way counts.
func (b *bench) runJournal(ctx context.Context) error {
	turns, lasts := 4, 3*time.Second
	if b.long {
		turns, lasts = 6, 10*time.Second
	}
	f, err := b.benchmarks(ctx, "journal")
	if err != nil {
		return err
	}
	const appends, publishes = "BenchmarkAppend/sync=always/goroutines=4096", "BenchmarkStraight/batch=1000"
	event := sampleEvent()
	var relays speed
	for turn := range turns {
		dir := filepath.Join(b.dir, fmt.Sprintf("journal-%d", turn))
		p, err := openPath(ctx, dir, time.Hour)
		if err != nil {
			return err
		}
		v, err := p.push(ctx, event, lasts)
		if err = errors.Join(err, p.close()); err != nil {
			return err
		}
		if n := p.final["pulse_journal_lost_readings_total"]; n > 0 {
			return fmt.Errorf("%.0f readings were lost", n)
		}
		relays = relays.faster(v)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := f.run(ctx, 1, appends+"$|"+publishes+"$", lasts.String()); err != nil {
			return err
		}
	}
	alone, straight := journalSpeed(f, appends), journalSpeed(f, publishes)
	limit := fmt.Sprintf("encoded events to JetStream, batches of 1000: %s", straight)
	b.compare(fmt.Sprintf("journal: %d relays over TCP to fsynced", pushers), relays.rate/straight.rate, 0.6, relays.String(), limit)
	b.compare("journal: appended in the process to fsynced", alone.rate/straight.rate, 0.6, alone.String(), limit)
	disk := f.of(appends, "B/reading")
	b.add("journal: bytes of a reading on disk", disk <= diskLimit, fmt.Sprint(diskLimit), "%.1f (%.1f of them the event)",
		disk, f.of(publishes, "event-B/reading"))
	if err := f.run(ctx, 1, "^BenchmarkBlockBytes$", "20000x"); err != nil {
		return err
	}
	for _, kind := range []struct{ name, what string }{{"alone", "a collector for each stat"}, {"together", "ten stats a collector"}} {
		disk := f.of("BenchmarkBlockBytes/stats="+kind.name, "B/reading")
		b.add("journal: bytes of a reading on disk, one tag set, "+kind.what, disk <= diskLimit, fmt.Sprint(diskLimit), "%.1f", disk)
	}
	return f.err()
}

// journalSpeed returns the speed that a benchmark of the journal has measured.
func journalSpeed(f *benchmarks, name string) speed {
	return speed{f.of(name, "readings/s"), time.Duration(f.of(name, "cpu-ns/reading"))}
}

// A speed is a number of readings a second, and the processor time of one reading. The processor
// time includes everything in this process.
type speed struct {
	rate float64
	cpu  time.Duration
}

func (s speed) faster(other speed) speed {
	if other.rate > s.rate {
		return other
	}
	return s
}

func (s speed) String() string {
	return fmt.Sprintf("%.0fk readings/s, %.2f µs of CPU each", s.rate/1000, float64(s.cpu.Nanoseconds())/1000)
}

// measure returns the speed while f runs. count returns the number of readings so far.
func measure(count func() float64, f func() error) (speed, error) {
	before, cpu, began := count(), ownCPU(), time.Now()
	err := f()
	n := count() - before
	return speed{n / time.Since(began).Seconds(), time.Duration(float64(ownCPU()-cpu) / max(n, 1))}, err
}

// A path is the way of readings until they are durable: the relay listener and the journal, without
// any projection.
type path struct {
	state   *migrations.State
	journal *journal.Journal
	ingest  *ingest.Server
	metrics *prometheus.Registry
	final   map[string]float64 // the metrics after close
}

func openPath(ctx context.Context, dir string, poll time.Duration) (_ *path, err error) {
	p := &path{metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.state, err = migrations.Open(dir, migrations.Options{}); err != nil {
		return p, err
	}
	p.journal, err = journal.Open(ctx, journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(p.state.DB), Registerer: p.metrics})
	if err != nil {
		return p, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, err
	}
	p.ingest, err = ingest.New(ingest.Options{Listener: listener, Journal: p.journal, DB: p.state.DB, PollInterval: poll, Registerer: p.metrics})
	if err != nil {
		return p, errors.Join(err, listener.Close())
	}
	p.ingest.Start()
	return p, nil
}

func (p *path) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if p.ingest != nil {
		errs = append(errs, p.ingest.Stop(ctx))
	}
	if p.journal != nil {
		p.final = p.gather()
		errs = append(errs, p.journal.Close(ctx))
	}
	if p.state != nil {
		errs = append(errs, p.state.Close())
	}
	return errors.Join(errs...)
}

// gather returns the present sums of the metrics.
func (p *path) gather() map[string]float64 {
	families, err := p.metrics.Gather()
	if err != nil {
		panic(err) // two metrics have the same name
	}
	sums := make(map[string]float64, len(families))
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sums[f.GetName()] += m.GetCounter().GetValue()
		}
	}
	return sums
}

// push has relays send event repeatedly, and returns how fast the readings became durable.
func (p *path) push(ctx context.Context, event *codec.Event, lasts time.Duration) (speed, error) {
	conns, err := connectAll(ctx, p.ingest.Addr().String(), pushers, event.Collectors...)
	defer closeAll(conns)
	if err != nil {
		return speed{}, err
	}
	var items []relaywire.GotItem
	for _, c := range event.Collectors {
		for _, s := range c.Stats {
			items = append(items, relaywire.GotItem{Collector: c.Name, Stat: s.ID, Value: s.Value})
		}
	}
	var lines []byte
	for range 64 {
		lines = relaywire.AppendGot(lines, items)
	}
	var enough atomic.Bool
	var group errgroup.Group
	for _, conn := range conns {
		group.Go(func() error {
			for {
				if _, err := conn.Write(lines); err != nil && !enough.Load() {
					return err
				} else if err != nil {
					return nil
				}
			}
		})
	}
	rate, err := p.rate(ctx, lasts)
	enough.Store(true)
	closeAll(conns)
	return rate, errors.Join(err, group.Wait())
}

const readingsTotal = "pulse_journal_appended_readings_total"

// rate returns how many readings the journal acknowledges, measured after one second of running.
func (p *path) rate(ctx context.Context, lasts time.Duration) (speed, error) {
	if err := pause(ctx, time.Second); err != nil {
		return speed{}, err
	}
	return measure(func() float64 { return p.gather()[readingsTotal] }, func() error { return pause(ctx, lasts) })
}
