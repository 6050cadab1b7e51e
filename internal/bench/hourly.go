package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// Quarter hours of seven days for 1,000 hosts.
	hourlyHosts = 1000
	hourlySpan  = 7 * 24 * time.Hour
	// hourlyLeast is how much of InfluxDB's own speed /hourly must have.
	hourlyLeast = 0.9
	// hourlyAsks is how often each question is asked.
	hourlyAsks, hourlyAsksLong = 5, 30
)

// runHourly compares the time of /hourly with the time that InfluxDB takes for the statement that
// /hourly sends.
func (b *bench) runHourly(ctx context.Context) error {
	if err := b.hourlyOutside(ctx); err != nil {
		return err
	}
	return b.hourlyInside(ctx)
}

func (b *bench) hourlyAsks() int {
	if b.long {
		return hourlyAsksLong
	}
	return hourlyAsks
}

func hourlyPath(verb string) string { return "/hourly/stat_0?start=7d&verb=" + verb }

// hourlyOutside makes the comparison with a real InfluxDB, both over HTTP.
func (b *bench) hourlyOutside(ctx context.Context) (err error) {
	tb := &tools{}
	defer tb.end(&err)
	db := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: db.Addr})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := fillHourly(ctx, store, filepath.Join(b.dir, "hourly")); err != nil {
		return err
	}
	// At first an eavesdropper notes the statements. It is not there when the times are measured.
	wire, err := newEavesdropper(db.Addr)
	if err != nil {
		return err
	}
	defer wire.server.Close()
	s, err := b.hourlyServer(ctx, "hourly", wire.server.URL)
	if err != nil {
		return err
	}
	said := make(map[string]string)
	for _, verb := range []string{"mean", "max"} {
		var hours []struct{ Value float64 }
		if err := s.Get(hourlyPath(verb), &hours); err != nil {
			return errors.Join(err, s.Stop())
		}
		// After its start the server sends statements of its own, but none of these groups by time.
		asked := slices.DeleteFunc(wire.take(), func(form string) bool { return !strings.Contains(form, "GROUP+BY") })
		if len(asked) != 1 { // others look for rows of 0.2, which do not exist here
			return errors.Join(fmt.Errorf("/hourly sent %d statements: %q", len(asked), asked), s.Stop())
		}
		said[verb] = asked[0]
	}
	if err := s.Stop(); err != nil {
		return err
	}
	if s, err = b.hourlyServer(ctx, "hourly", db.Addr); err != nil {
		return err
	}
	defer s.Kill()
	defer func() { err = withLog(err, s) }()
	for _, verb := range []string{"mean", "max"} {
		best, err := quickest(b.hourlyAsks(),
			func() (time.Duration, error) { return askHourly(ctx, s.HTTPAddr, verb) },
			func() (time.Duration, error) {
				return single(timed(ctx, 1, time.Minute, func() (*http.Request, error) {
					request, err := http.NewRequest(http.MethodPost, db.Addr+"/query", strings.NewReader(said[verb]))
					if err == nil {
						request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					}
					return request, err
				}))
			})
		if err != nil {
			return err
		}
		b.compareHourly(verb, "a real InfluxDB 1.8", best[0], best[1], "the same InfluxQL over HTTP")
	}
	return nil
}

func (b *bench) compareHourly(verb, where string, ours, straight time.Duration, how string) {
	b.compare(fmt.Sprintf("hourly: %s of 7 days of %d hosts, over %s", verb, hourlyHosts, where), straight.Seconds()/ours.Seconds(), hourlyLeast,
		fmt.Sprintf("%.0f ms", ours.Seconds()*1e3), fmt.Sprintf("%.0f ms %s", straight.Seconds()*1e3, how))
}

// hourlyInside makes the comparison with the embedded engine. The API and the engine are in one
// process, as in the server.
func (b *bench) hourlyInside(ctx context.Context) error {
	f, err := b.benchmarks(ctx, "query")
	if err != nil {
		return err
	}
	if err := f.run(ctx, 1, "^BenchmarkHourly$", fmt.Sprintf("%dx", b.hourlyAsks())); err != nil {
		return err
	}
	for _, verb := range []string{"mean", "max"} {
		took := func(how string) time.Duration { return time.Duration(f.of("BenchmarkHourly/"+verb+"/"+how, "ns/op")) }
		b.compareHourly(verb, "the embedded engine", took("http"), took("straight"), "the same InfluxQL in process")
	}
	return f.err()
}

func (b *bench) hourlyServer(ctx context.Context, name, address string) (*pulseproc.Server, error) {
	s, err := pulseproc.New(pulseproc.Options{
		Binary: b.binary, DataDir: filepath.Join(b.dir, name), Args: []string{"--influx-address", address, "--retention", "2", "-l", "WARN"},
	})
	if err != nil {
		return nil, err
	}
	return s, s.Start(ctx)
}

func askHourly(ctx context.Context, addr, verb string) (time.Duration, error) {
	return single(timed(ctx, 1, time.Minute, func() (*http.Request, error) {
		return http.NewRequest(http.MethodGet, "http://"+addr+hourlyPath(verb), nil)
	}))
}

func single(t timings, err error) (time.Duration, error) {
	if err != nil {
		return 0, err
	}
	return t[0], nil
}

// fillHourly writes the rows of the windows for a server whose data dir is dir.
func fillHourly(ctx context.Context, store influx.Store, dir string) (err error) {
	if _, err := migrations.EnsureInflux(ctx, store, migrations.Schema{Aggregates: 2 * hourlySpan}, nil); err != nil {
		return err
	}
	// The state tells the server that these rows are its own, so that it does not look for rows of
	// 0.2.
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	if _, err := migrations.TakeOver(ctx, migrations.TakeOverOptions{DB: state.DB, Influx: store}); err != nil {
		return err
	}
	series := make([]influx.Series, hourlyHosts)
	for i := range series {
		series[i] = influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: relaytest.FleetID(i)})
	}
	stat := relaytest.FleetStat(0)
	now := time.Now()
	var points []influx.Point
	for at := now.Add(-hourlySpan).Truncate(time.Hour); at.Before(now); at = at.Add(aggregateInterval) {
		for i, s := range series {
			v := float64(i)
			points = append(points, influx.Point{Series: s, Time: at.UnixNano(), Fields: []influx.Field{{Key: stat, Value: v}, {Key: stat + ":count", Value: 15},
				{Key: stat + ":sum", Value: 15 * v}, {Key: stat + ":min", Value: v - 1}, {Key: stat + ":max", Value: v + 1}, {Key: stat + ":last", Value: v}}})
		}
		if len(points) >= 2*rawBatch {
			if res, err := store.Write(ctx, influx.PolicyAggregate, points); err != nil || res != (influx.WriteResult{}) {
				return fmt.Errorf("writing the windows: %+v: %w", res, err)
			}
			points = points[:0]
		}
	}
	_, err = store.Write(ctx, influx.PolicyAggregate, points)
	return err
}

// An eavesdropper passes requests on to InfluxDB and keeps the bodies of SELECT statements.
type eavesdropper struct {
	server *httptest.Server

	mu    sync.Mutex
	asked []string // bodies
}

func newEavesdropper(addr string) (*eavesdropper, error) {
	to, err := url.Parse(addr)
	if err != nil {
		return nil, err
	}
	e := &eavesdropper{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	e.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil && strings.HasPrefix(form.Get("q"), "SELECT") {
			e.mu.Lock()
			e.asked = append(e.asked, strings.ReplaceAll(string(body), "chunked=true&", "")) // in one piece, as Grafana and most others ask
			e.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	return e, nil
}

// take returns the bodies since the last call.
func (e *eavesdropper) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}
