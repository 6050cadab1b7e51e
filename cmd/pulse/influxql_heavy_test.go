package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// tenYears writes rows of 100 hosts, four a week for ten years, as windows.
func tenYears(t *testing.T, dir string) {
	t.Helper()
	store, err := embedded.Open(embedded.Options{Dir: filepath.Join(dir, "influx")})
	if err != nil {
		t.Fatal(err)
	}
	const week = 7 * 24 * time.Hour
	now := time.Now().Truncate(week)
	var series []influx.Series
	for host := range 100 {
		series = append(series, influx.NewSeries("aggregate", influx.Tag{Key: "host", Value: fmt.Sprint("old", host)}))
	}
	for back := 1; back < 520; back++ {
		var points []influx.Point
		for i, s := range series {
			for row := range 4 {
				p := influx.Point{Series: s, Time: now.Add(-time.Duration(back)*week + time.Duration(row)*week/4).UnixNano()}
				for _, field := range []string{"cpu", "cpu:count", "cpu:sum", "cpu:min", "cpu:max", "cpu:last"} {
					p.Fields = append(p.Fields, influx.Field{Key: field, Value: float64(i * back % 101)})
				}
				points = append(points, p)
			}
		}
		if result, err := store.Write(t.Context(), influx.PolicyAggregate, points); err != nil || result != (influx.WriteResult{}) {
			t.Fatal(result, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// Queries over all series of ten years end within their limits. Meanwhile polls, appends and /latest
// go on, and the memory stays within its bounds. The bounds are generous: a machine may be busy.
func TestHeavyQueriesHurtNobody(t *testing.T) {
	dir := t.TempDir()
	// The engine has races of its own in the statistics of queries that are interrupted and in the
	// types of a subquery's fields. They are written to the log, and do not count at the end.
	s := serverOf(t, pulseproc.Options{DataDir: dir, Env: []string{"GORACE=exitcode=0"}, Args: []string{"--influx-address", "embedded", "--retention", "521", "-p", "1"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	tenYears(t, dir)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 50, Stats: 10})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var latest stat
	await(t, s, "/latest/stat_0", time.Minute, func() error { return s.Get("/latest/stat_0", &latest) })

	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	heavy := []string{
		`SELECT * FROM "one_week"."aggregate"`, `SELECT * FROM "one_week"."aggregate" GROUP BY *`,
		`SELECT mean(*), stddev(*), percentile(*, 99) FROM "one_week"./.*/ WHERE time > now() - 520w GROUP BY time(1h), *`,
		`SELECT mean("cpu") FROM "one_week"."aggregate" WHERE time > now() - 520w GROUP BY time(1s)`,
		`SELECT max(m) FROM (SELECT mean("cpu") AS m FROM "one_week"."aggregate" WHERE time > now() - 520w GROUP BY time(1h), "host" fill(0)) GROUP BY time(1d), "host"`,
		`SELECT median("cpu") FROM "one_week"."aggregate" GROUP BY "host"`,
		// These are within the limits, and take long.
		`SELECT median("cpu") FROM "one_week"."aggregate" WHERE time > now() - 90w GROUP BY "host"`,
		`SELECT mean("cpu") FROM "one_week"."aggregate" WHERE time > now() - 90w GROUP BY time(1h), "host" fill(0)`,
		`SELECT last("cpu"), "cpu:max" FROM "one_week"."aggregate" WHERE "host" = 'old7'`, `SHOW SERIES`, `SHOW TAG VALUES WITH KEY =~ /.*/ WHERE time > 0`,
	}
	ask := func(text string, chunked bool) (said string, took time.Duration) {
		began := time.Now()
		form := url.Values{"db": {"statistics"}, "q": {text}, "chunked": {fmt.Sprint(chunked)}}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTPAddr+"/query", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("X-AUTH-TOKEN", "secret")
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return "", time.Since(began)
		}
		defer response.Body.Close()
		var n int64
		body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
		if err == nil {
			n, err = io.Copy(io.Discard, response.Body)
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		return fmt.Sprintf("%d, %d bytes, %.200s", response.StatusCode, n+int64(len(body)), body), time.Since(began)
	}
	before, err := s.Metric("pulse_journal_appended_readings_total")
	if err != nil {
		t.Fatal(err)
	}
	var askers sync.WaitGroup
	began := time.Now()
	for i := range 3 { // one more than run at a time
		askers.Go(func() {
			for k := range heavy {
				text := heavy[(i+k)%len(heavy)]
				said, took := ask(text, i%2 == 0)
				t.Logf("%6.2fs %s: %s", took.Seconds(), text, said)
				if took > 2*time.Minute { // a wait of 10 s, a query of 30 s, and an answer
					t.Errorf("%s took %v", text, took)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { askers.Wait(); close(done) }()
	slowest, peak, asked := time.Duration(0), int64(0), 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(200 * time.Millisecond):
		}
		asks := time.Now()
		// On a busy machine a reading may be older than the two polls that /latest looks back.
		if err := s.Get("/latest/stat_0", &latest); err != nil && !strings.Contains(err.Error(), "404") {
			t.Errorf("/latest: %v", err)
		}
		asked++
		slowest = max(slowest, time.Since(asks))
		rss, _, err := s.RSS()
		if err != nil {
			t.Fatal(err)
		}
		peak = max(peak, rss)
	}
	took := time.Since(began)
	after, err := s.Metric("pulse_journal_appended_readings_total")
	if err != nil {
		t.Fatal(err)
	}
	rate := (after - before) / took.Seconds() / (50 * 10)
	t.Logf("%v of heavy queries: %.2f polls a second for each relay, slowest of %d /latest %v, peak %d MiB", took, rate, asked, slowest, peak>>20)
	if rate < 0.5 || slowest > 20*time.Second || peak > raceMemory<<30 {
		t.Error("polls, /latest or the memory suffered")
	}
}
