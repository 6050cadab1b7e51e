package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// rangeHosts are polled every rangePoll for rangeSpan.
	rangeHosts = 100
	rangePoll  = 10 * time.Second
	rangeSpan  = 6 * time.Hour
	// rangeLeast is how much of InfluxDB's own speed /range must have, and rangeLimit the longest
	// 99th percentile.
	rangeLeast = 0.9
	rangeLimit = 300 * time.Millisecond
	// rangeAsks is how often each question is asked.
	rangeAsks, rangeAsksLong = 30, 200
	// rangeRounds spread a slow minute of the machine over both ways of asking the embedded engine.
	rangeRounds = 3

	rangePath = "/range/stat_0?start=6h&step=1m&by=host"
)

func (b *bench) rangeAsks() int {
	if b.long {
		return rangeAsksLong
	}
	return rangeAsks
}

// runRange compares the time of /range with the time that InfluxDB takes for the statement that
// /range sends: over a real InfluxDB, and over the embedded engine with few and with many series.
func (b *bench) runRange(ctx context.Context) error {
	if err := b.rangeOutside(ctx); err != nil {
		return err
	}
	f, err := b.benchmarks(ctx, "query")
	if err != nil {
		return err
	}
	if err := f.run(ctx, rangeRounds, "^BenchmarkRange$", fmt.Sprintf("%dx", b.rangeAsks())); err != nil {
		return err
	}
	for _, c := range []struct{ name, what string }{{"100of100", "the embedded engine"}, {"100of100k", "the embedded engine with 100k series of the stat"}} {
		took := func(how, unit string, one float64) time.Duration {
			return time.Duration(f.of("BenchmarkRange/"+c.name+"/"+how, unit) * one)
		}
		b.compareRange(c.what, took("http", "ns/op", 1), took("straight", "ns/op", 1), took("http", "p99-ms", 1e6), "the same InfluxQL in process")
	}
	return f.err()
}

func (b *bench) compareRange(where string, ours, straight, p99 time.Duration, how string) {
	what := fmt.Sprintf("range: 6 h at a minute by host, %d hosts, over %s", rangeHosts, where)
	b.compare(what, straight.Seconds()/ours.Seconds(), rangeLeast, fmt.Sprintf("%.0f ms", ours.Seconds()*1e3),
		fmt.Sprintf("%.0f ms %s", straight.Seconds()*1e3, how))
	b.add(what+", p99", p99 < rangeLimit, "300 ms", "%.0f ms", p99.Seconds()*1e3)
}

// rangeOutside makes the comparison with a real InfluxDB, both over HTTP.
func (b *bench) rangeOutside(ctx context.Context) (err error) {
	tb := &tools{}
	defer tb.end(&err)
	db := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: db.Addr})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := fillRange(ctx, store); err != nil {
		return err
	}
	// At first an eavesdropper notes the statement. It is not there when the times are measured.
	wire, err := newEavesdropper(db.Addr)
	if err != nil {
		return err
	}
	defer wire.server.Close()
	dir := "range"
	s, err := b.hourlyServer(ctx, dir, wire.server.URL)
	if err != nil {
		return err
	}
	var answer struct{ Series []any }
	if err := s.Get(rangePath, &answer); err != nil {
		s.Kill()
		return withLog(err, s)
	}
	asked := slices.DeleteFunc(wire.take(), func(form string) bool { return !strings.Contains(form, "GROUP+BY+time") })
	if err := s.Stop(); err != nil {
		return err
	}
	if len(asked) != 1 || len(answer.Series) != rangeHosts {
		return fmt.Errorf("/range sent %d statements and answered %d series: %q", len(asked), len(answer.Series), asked)
	}
	if s, err = b.hourlyServer(ctx, dir, db.Addr); err != nil {
		return err
	}
	defer s.Kill()
	defer func() { err = withLog(err, s) }()
	ours, err := timed(ctx, b.rangeAsks(), time.Minute, func() (*http.Request, error) {
		return http.NewRequest(http.MethodGet, "http://"+s.HTTPAddr+rangePath, nil)
	})
	if err != nil {
		return err
	}
	theirs, err := timed(ctx, b.rangeAsks(), time.Minute, func() (*http.Request, error) {
		request, err := http.NewRequest(http.MethodPost, db.Addr+"/query", strings.NewReader(asked[0]))
		if err == nil {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return request, err
	})
	if err != nil {
		return err
	}
	b.compareRange("a real InfluxDB 1.8", ours.part(0.5), theirs.part(0.5), ours.part(0.99), "the same InfluxQL over HTTP")
	return nil
}

// fillRange writes the readings.
func fillRange(ctx context.Context, store influx.Store) error {
	if _, err := migrations.EnsureInflux(ctx, store, migrations.Schema{Aggregates: 2 * hourlySpan}, nil); err != nil {
		return err
	}
	stat, now := relaytest.FleetStat(0), time.Now()
	var points []influx.Point
	for i := range rangeHosts {
		s := influx.NewSeries(stat, influx.Tag{Key: "host", Value: relaytest.FleetID(i)})
		for back := rangeSpan + time.Minute; back > 0; back -= rangePoll {
			points = append(points, influx.Point{Series: s, Time: now.Add(-back).UnixNano(), Fields: []influx.Field{{Key: stat, Value: float64(i)}}})
		}
		if len(points) < 2*rawBatch && i < rangeHosts-1 {
			continue
		}
		if res, err := store.Write(ctx, influx.PolicyRaw, points); err != nil || res != (influx.WriteResult{}) {
			return fmt.Errorf("writing the readings: %+v: %w", res, err)
		}
		points = points[:0]
	}
	return nil
}
