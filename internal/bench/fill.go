package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/latest"
	pastqueue "github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// A fill is an outage whose time is compressed. It appends events of the past to a journal as fast
// as the journal takes them, while the projections run and InfluxDB is away. It runs in a process
// of its own, so that only the fill uses the memory of the process.
type fill struct {
	dir, influx   string
	events        int
	relays, stats int
	end           int64         // the time of the last event, ns since 1970
	span          time.Duration // the time from the first event to the last
}

// fillCommand is the first argument of the process that fills.
const fillCommand = "fill"

// args returns the command line that parseFill reads.
func (f *fill) args(command string) []string {
	return []string{command, "-dir", f.dir, "-influx", f.influx, "-events", strconv.Itoa(f.events), "-relays", strconv.Itoa(f.relays),
		"-stats", strconv.Itoa(f.stats), "-end", strconv.FormatInt(f.end, 10), "-span", f.span.String()}
}

func parseFill(args []string) (*fill, error) {
	f := &fill{}
	flags := flag.NewFlagSet(fillCommand, flag.ContinueOnError)
	flags.StringVar(&f.dir, "dir", "", "data dir")
	flags.StringVar(&f.influx, "influx", "", "address of the InfluxDB that is away")
	flags.IntVar(&f.events, "events", 0, "how many events")
	flags.IntVar(&f.relays, "relays", 0, "of how many relays")
	flags.IntVar(&f.stats, "stats", 0, "readings of an event")
	flags.Int64Var(&f.end, "end", 0, "where the events' times end (ns)")
	flags.DurationVar(&f.span, "span", 0, "how long before that they begin")
	return f, flags.Parse(args)
}

// run runs the fill and prints its result for parseFilled.
func (f *fill) run(ctx context.Context) error {
	state, err := migrations.Open(f.dir, migrations.Options{})
	if err != nil {
		return err
	}
	defer state.Close()
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(f.dir, "journal"), Marker: journal.BoltMarker(state.DB), Retention: 7 * 24 * time.Hour, MaxBytes: 10e9})
	if err != nil {
		return err
	}
	stop, err := f.project(ctx, state, j)
	if err != nil {
		return err
	}
	began := time.Now()
	warm := min(f.events/2, warmEvents)
	if err := f.append(ctx, j, 0, warm); err != nil {
		return err
	}
	took := time.Since(began)
	before, err := restingRSS(ctx)
	if err != nil {
		return err
	}
	var peak atomic.Int64
	watching, unwatch := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watching.Err() == nil {
			if now, err := rss(); err == nil {
				peak.Store(max(peak.Load(), now))
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	began = time.Now()
	err = f.append(ctx, j, warm, f.events)
	took += time.Since(began)
	unwatch()
	watcher.Wait()
	if err != nil {
		return err
	}
	after, err := restingRSS(ctx)
	if err != nil {
		return err
	}
	stop()
	if err := j.Close(ctx); err != nil {
		return err
	}
	fmt.Printf("%d %d %d %g\n", before, after, peak.Load(), took.Seconds())
	return nil
}

// filled is the result of a fill.
type filled struct {
	before, after, peak int64   // RSS after the first events, at the end, and the highest; bytes
	seconds             float64 // how long the appends took
}

func parseFilled(text string) (r filled, err error) {
	_, err = fmt.Sscan(text, &r.before, &r.after, &r.peak, &r.seconds)
	return r, err
}

// project runs the projections as the server does.
func (f *fill) project(ctx context.Context, state *migrations.State, j *journal.Journal) (stop func(), err error) {
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: f.influx})
	if err != nil {
		return nil, err
	}
	source, positions, rejects := projector.FromJournal(j), projector.NewPositions(state.DB), projector.NewRejects(state.DB)
	ensure := func(ctx context.Context) error {
		_, err := migrations.EnsureInflux(ctx, store, migrations.Schema{}, nil)
		return err
	}
	rawOptions := influx.RawOptions{Store: store, EnsureSchema: ensure, Retention: migrations.RawRetention, Rejects: rejects}
	raw, err := influx.NewRaw(rawOptions)
	if err != nil {
		return nil, err
	}
	rawPast, err := influx.NewRawPast(rawOptions, source, state.DB)
	if err != nil {
		return nil, err
	}
	aggregates, err := influx.NewAggregates(influx.AggregatesOptions{Store: store, EnsureSchema: ensure, Interval: aggregateInterval,
		Retention: 7 * 24 * time.Hour, Rejects: rejects, Journal: source, DB: state.DB})
	if err != nil {
		return nil, err
	}
	queue, err := pastqueue.New(pastqueue.Options{DB: state.DB, Journal: source, View: rawPast, Rejects: rejects})
	if err != nil {
		return nil, err
	}
	set := projector.NewSet(projector.SetOptions{Journal: source, Positions: positions, Rejects: rejects})
	set.AddPast(queue)
	for _, o := range []projector.RunnerOptions{
		{Projection: raw, Backlog: queue.Backlog, Linger: 200 * time.Millisecond},
		{Projection: aggregates, Linger: 200 * time.Millisecond},
		{Projection: latest.New(latest.Options{}), Start: projector.FromEnd()},
	} {
		if err := set.Add(o); err != nil {
			return nil, err
		}
	}
	if err := set.Start(ctx); err != nil {
		return nil, err
	}
	return func() {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_ = set.Drain(ended) // nothing was written
		_ = store.Close()
	}, nil
}

// warmEvents is the number of events after which memory is measured first. By then the buffers of
// the journal and the heap have their full size.
const warmEvents = outageEvents / 10

// appenders is how many goroutines append at the same time: enough for large groups.
const appenders = 512

// append appends the events from the number from up to, but not including, the number to, roughly
// in order.
func (f *fill) append(ctx context.Context, j *journal.Journal, from, to int) error {
	var next atomic.Int64
	next.Store(int64(from))
	group, ctx := errgroup.WithContext(ctx)
	for range appenders {
		group.Go(func() error {
			e := codec.Event{Collectors: []codec.Collector{{Name: relaytest.FleetCollector(0), Stats: make([]codec.Stat, f.stats)}}}
			for i := range f.stats {
				e.Collectors[0].Stats[i].ID = relaytest.FleetStat(i)
			}
			for {
				n := next.Add(1) - 1
				if n >= int64(to) {
					return nil
				}
				e.Relay = relaytest.FleetID(int(n) % f.relays)
				e.Time = f.end - int64(f.span) + int64(float64(f.span)*float64(n)/float64(f.events))
				for i := range f.stats {
					e.Collectors[0].Stats[i].Value = relaytest.FleetValue(0, i, uint64(n)/uint64(f.relays))
				}
				if _, err := j.Append(ctx, &e); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// caches is a little longer than the journal's server keeps the blocks that it wrote in memory. The
// number of these blocks depends on how fast the hour passes in the bench, not on the outage.
const caches = 15 * time.Second

// restingRSS returns rss after the memory that is no longer needed was freed. An object in a pool
// is freed only by the second garbage collection.
func restingRSS(ctx context.Context) (int64, error) {
	select {
	case <-time.After(caches):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for range 3 {
		debug.FreeOSMemory()
	}
	return rss()
}

// rss returns the resident memory of this process in bytes.
func rss() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("unreadable /proc/self/statm: %q", text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
