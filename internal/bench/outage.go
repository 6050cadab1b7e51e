package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// aggregateInterval is the server's default.
	aggregateInterval = 15 * time.Minute
	// The outage: an hour of a thousand relays of ten stats, polled every second.
	outageRelays, outageStats = 1000, 10
	outageEvents              = 3_600_000
	outageSpan                = time.Hour
	// outageLimit is how long it may take until InfluxDB has all readings of the outage.
	outageLimit = 10 * time.Minute
	// growthLimit is by how much memory may grow while nothing can be written.
	growthLimit = 64 << 20
)

// runOutage simulates an hour without InfluxDB at 10,000 readings a second. The simulated hour
// takes as long as appending its events, or only a tenth of the events without -long. Then InfluxDB
// comes back, while a fleet is polled every second.
func (b *bench) runOutage(ctx context.Context) (err error) {
	tb := &tools{}
	defer tb.end(&err)
	db := testtools.StartInfluxd(tb, testtools.InfluxDB18,
		testtools.Setting{Section: "data", Line: "max-series-per-database = 0"}, testtools.Setting{Section: "data", Line: "cache-max-memory-size = 0"})
	db.Stop()
	f := &fill{dir: filepath.Join(b.dir, "outage"), influx: db.Addr, events: outageEvents / 10, relays: outageRelays, stats: outageStats,
		end: time.Now().Truncate(aggregateInterval).UnixNano(), span: outageSpan}
	if b.long {
		f.events = outageEvents
	}
	r, err := b.fill(ctx, f)
	if err != nil {
		return err
	}
	readings := f.events * f.stats
	b.add(fmt.Sprintf("outage: %d events of %d readings appended", f.events, f.stats), true, "-", "%.0f s", r.seconds)
	b.add("outage: RSS growth", r.after-r.before < growthLimit, "64 MiB", "%.1f MiB (from %d MiB, peak %d MiB)",
		float64(r.after-r.before)/(1<<20), r.before>>20, r.peak>>20)

	s, err := pulseproc.New(pulseproc.Options{Binary: b.binary, DataDir: f.dir, Args: []string{"--influx-address", db.Addr, "-p", "1", "-l", "WARN"}})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: f.relays, Stats: f.stats})
	defer fleet.Stop()
	if err := fleet.Start(ctx); err != nil {
		return err
	}
	if err := s.Await(ctx, func() (bool, error) { return fleet.Polls() > uint64(5*f.relays), nil }); err != nil {
		return err
	}

	store, err := influx.OpenExternal(influx.ExternalOptions{Address: db.Addr})
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*outageLimit)
	defer cancel()
	db.Restart()
	w := &watch{server: s, store: store, fill: f, began: time.Now()}
	err = w.until(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	b.add("outage: InfluxDB back to the newest readings in it", w.newest > 0 && w.newest < time.Minute, "60 s", "%.1f s", w.newest.Seconds())
	b.add(fmt.Sprintf("outage: all %d readings in InfluxDB, raw", readings), w.raw > 0 && w.raw < outageLimit, "600 s", "%.1f s", w.raw.Seconds())
	b.add(fmt.Sprintf("outage: all %d readings in the aggregates", readings), w.aggregates > 0 && w.aggregates < outageLimit, "600 s", "%.1f s", w.aggregates.Seconds())
	b.add("outage: age of /latest, at most", w.stale == 0 && w.latestAge < 3*time.Second, "3 s", "%.1f s (%d of %d times older than two polls)",
		w.latestAge.Seconds(), w.stale, w.looks)
	skipped, err := s.Metric("pulse_ingest_polls_skipped_total")
	if err != nil {
		return err
	}
	unanswered, err := s.Metric("pulse_ingest_polls_unanswered_total")
	if err != nil {
		return err
	}
	b.add("outage: polls skipped or unanswered", skipped+unanswered == 0, "0", "%.0f of %d", skipped+unanswered, fleet.Polls())
	if n := fleet.Disconnects(); n > 0 {
		return fmt.Errorf("%d relays lost their connection: %w", n, fleet.Err())
	}
	_, peak, err := s.RSS()
	b.add("outage: peak RSS of the server", true, "-", "%d MiB", peak>>20)
	return err
}

// fill runs f in a process of its own.
func (b *bench) fill(ctx context.Context, f *fill) (filled, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return filled{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return filled{}, err
	}
	command := exec.CommandContext(ctx, self, f.args(fillCommand)...)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return filled{}, fmt.Errorf("filling the journal: %w", err)
	}
	return parseFilled(string(output))
}

// A watch checks a server every second until InfluxDB has all readings of an outage.
type watch struct {
	server *pulseproc.Server
	store  influx.Store
	fill   *fill
	began  time.Time

	newest, raw, aggregates time.Duration // since began; 0: not yet
	latestAge               time.Duration // the highest age
	looks, stale            int           // how often /latest was asked, and had no answer
}

func (w *watch) until(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for w.raw == 0 || w.aggregates == 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := w.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) look(ctx context.Context) error {
	var latest struct{ Time int64 }
	w.looks++
	if err := w.server.Get("/latest/"+relaytest.FleetStat(0), &latest); err != nil {
		w.stale++ // older than two polls: 404
	} else {
		w.latestAge = max(w.latestAge, time.Since(time.Unix(latest.Time, 0)))
	}
	if w.newest == 0 {
		last, err := w.value(ctx, `SELECT last(%[1]q) FROM "one_day".%[1]q WHERE time > now() - 10s`)
		if err == nil && last > 0 {
			w.newest = time.Since(w.began)
		}
	}
	var status struct {
		Projections []struct {
			Name         string
			Lag, Backlog uint64
		}
	}
	if err := w.server.Get("/status", &status); err != nil {
		return err
	}
	for _, p := range status.Projections {
		// Live readings are always on their way, so a small lag counts as caught up. The readings
		// in InfluxDB are counted only after that, because counting takes seconds.
		if p.Backlog > 0 || p.Lag > uint64(10*w.fill.relays) {
			continue
		}
		switch {
		case p.Name == "influx_raw" && w.raw == 0:
			if n, err := w.value(ctx, `SELECT count(%[1]q) FROM "one_day".%[1]q WHERE time < %[2]d`); err == nil && int(n) == w.fill.events {
				w.raw = time.Since(w.began)
			}
		case p.Name == "influx_aggregates" && w.aggregates == 0:
			if n, err := w.value(ctx, `SELECT sum("%[1]s:count") FROM "one_week"."aggregate" WHERE time < %[2]d`); err == nil && int(n) == w.fill.events {
				w.aggregates = time.Since(w.began)
			}
		}
	}
	return nil
}

// value queries one number about the last of the stats. It formats the stat's name and the end of
// the outage into statement. 0 means that there is no number.
func (w *watch) value(ctx context.Context, statement string) (float64, error) {
	rows, err := w.store.Query(ctx, fmt.Sprintf(statement, relaytest.FleetStat(w.fill.stats-1), w.fill.end), nil)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	n, _ := rows[0].Values[0][1].(float64) // nil: no number
	return n, nil
}

// tools is a test as internal/testtools needs one.
type tools struct {
	testing.TB
	cleanups []func()
	dirs     []string
	err      error
}

// toolsFailed is what Fatal panics with; end recovers it.
type toolsFailed struct{ error }

func (t *tools) end(err *error) {
	switch r := recover().(type) {
	case nil:
	case toolsFailed:
		*err = errors.Join(*err, r.error)
	default:
		panic(r)
	}
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
	for _, dir := range t.dirs {
		*err = errors.Join(*err, os.RemoveAll(dir))
	}
	*err = errors.Join(*err, t.err)
}

func (t *tools) Helper()                   {}
func (t *tools) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *tools) Failed() bool              { return t.err != nil }
func (t *tools) Logf(f string, a ...any)   { fmt.Fprintf(os.Stderr, f+"\n", a...) }
func (t *tools) Errorf(f string, a ...any) { t.err = errors.Join(t.err, fmt.Errorf(f, a...)) }
func (t *tools) Fatalf(f string, a ...any) { panic(toolsFailed{fmt.Errorf(f, a...)}) }
func (t *tools) Fatal(a ...any)            { panic(toolsFailed{errors.New(fmt.Sprint(a...))}) }
func (t *tools) TempDir() string {
	dir, err := os.MkdirTemp("", "pulse-bench-tools-")
	if err != nil {
		t.Fatal(err)
	}
	t.dirs = append(t.dirs, dir)
	return dir
}
