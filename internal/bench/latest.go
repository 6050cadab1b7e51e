package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// 100,000 series of one stat: 100 collectors on each of 1,000 relays. Each collector has a tag
	// of its own. Ten relays share a service, and a hundred share a zone.
	latestRelays, latestCollectors = 1000, 100
	// latestLeast is how many times faster than InfluxDB /latest must be. latestLimit is how long
	// /latest may take.
	latestLeast = 50
	latestLimit = 2 * time.Millisecond
	// latestAsks is how often /latest is asked. InfluxDB is asked for as long as askingTime.
	latestAsks = 3000
	askingTime = 4 * time.Second
)

// runLatest compares /latest with one filter to the same query on a real InfluxDB that holds the
// same series, both over HTTP.
func (b *bench) runLatest(ctx context.Context) (err error) {
	s, err := b.server("latest", 10*time.Minute) // so that pushed readings do not become too old
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	defer func() { err = withLog(err, s) }()
	relays := make([]*pusher, latestRelays)
	defer func() { (&crowd{pushers: relays}).close() }()
	group, connecting := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for i := range relays {
		group.Go(func() (err error) {
			relays[i], err = latestRelay(connecting, s.RelayAddr, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	awaiting, cancel := context.WithTimeout(ctx, fillLimit)
	defer cancel()
	if err := s.Await(awaiting, func() (bool, error) {
		var series struct{ Value float64 }
		err := s.Get("/latest/stat_0?verb=count", &series)
		return err == nil && series.Value == latestRelays*latestCollectors, nil
	}); err != nil {
		return err
	}
	// The time of /ping is what any answer over HTTP costs.
	ping, err := timed(ctx, latestAsks, time.Minute, func() (*http.Request, error) {
		return http.NewRequest(http.MethodGet, "http://"+s.HTTPAddr+"/ping", nil)
	})
	if err != nil {
		return err
	}
	tb := &tools{}
	defer tb.end(&err)
	db := testtools.StartInfluxd(tb, testtools.InfluxDB18)
	if err := fillLatest(ctx, db.Addr); err != nil {
		return err
	}
	for _, c := range []struct {
		key, value string
		series     int
	}{{"host", relaytest.FleetID(77), 100}, {"service", "s5", 1000}, {"zone", "z5", 10_000}} {
		filter := c.key + "=" + c.value
		ours, err := timed(ctx, latestAsks, time.Minute, func() (*http.Request, error) {
			return http.NewRequest(http.MethodGet, "http://"+s.HTTPAddr+"/latest/stat_0?"+filter, nil)
		})
		if err != nil {
			return err
		}
		statement := fmt.Sprintf(`SELECT mean("last") FROM (SELECT last("stat_0") FROM "statistics"."one_day"."stat_0" WHERE %q = '%s' AND time > now() - 1200s GROUP BY *)`, c.key, c.value)
		theirs, err := timed(ctx, latestAsks, askingTime, func() (*http.Request, error) {
			return http.NewRequest(http.MethodGet, db.Addr+"/query?"+url.Values{"db": {influx.Database}, "q": {statement}}.Encode(), nil)
		})
		if err != nil {
			return err
		}
		what := fmt.Sprintf("latest: one filter that %d of 100k series match", c.series)
		b.compare(what+", the median", theirs.part(0.5).Seconds()/ours.part(0.5).Seconds(), latestLeast,
			fmt.Sprintf("%.0f µs (%.0f µs for /ping)", ours.part(0.5).Seconds()*1e6, ping.part(0.5).Seconds()*1e6),
			fmt.Sprintf("%.0f µs InfluxQL", theirs.part(0.5).Seconds()*1e6))
		b.add(what+", p99", ours.part(0.99) < latestLimit, "2 ms", "%.2f ms (/ping %.2f ms, InfluxQL %.2f ms)",
			ours.part(0.99).Seconds()*1e3, ping.part(0.99).Seconds()*1e3, theirs.part(0.99).Seconds()*1e3)
	}
	return nil
}

func latestTags(relay, collector int) []string {
	return []string{fmt.Sprintf("part:p%d", collector), fmt.Sprintf("service:s%d", relay/10), fmt.Sprintf("zone:z%d", relay/100)}
}

// latestRelay connects a relay, pushes its readings and returns when they are in the journal.
func latestRelay(ctx context.Context, addr string, i int) (*pusher, error) {
	var adds []byte
	var got []string
	for c := range latestCollectors {
		adds = relaywire.AppendAdd(adds, relaytest.FleetCollector(c), latestTags(i, c))
		got = append(got, fmt.Sprintf("%s-stat_0:%d", relaytest.FleetCollector(c), c))
	}
	p, err := dialPusher(ctx, addr, relaytest.FleetID(i), adds, latestCollectors)
	if err != nil {
		return nil, err
	}
	if err := p.push(ctx, []byte("got "+strings.Join(got, ",")+"\n"), true); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// fillLatest writes the same readings into InfluxDB.
func fillLatest(ctx context.Context, addr string) error {
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: addr})
	if err != nil {
		return err
	}
	defer store.Close()
	if _, err := migrations.EnsureInflux(ctx, store, migrations.Schema{Aggregates: 7 * 24 * time.Hour}, nil); err != nil {
		return err
	}
	now := time.Now().UnixNano()
	for i := range latestRelays {
		var points []influx.Point
		for c := range latestCollectors {
			tags := []influx.Tag{{Key: "host", Value: relaytest.FleetID(i)}}
			for _, tag := range latestTags(i, c) {
				key, value, _ := strings.Cut(tag, ":")
				tags = append(tags, influx.Tag{Key: key, Value: value})
			}
			points = append(points, influx.Point{Series: influx.NewSeries("stat_0", tags...), Time: now,
				Fields: []influx.Field{{Key: "stat_0", Value: float64(c)}}})
		}
		if res, err := store.Write(ctx, influx.PolicyRaw, points); err != nil || res != (influx.WriteResult{}) {
			return errors.Join(err, fmt.Errorf("writing the series into InfluxDB: %+v", res))
		}
	}
	return nil
}

// withLog adds the server's log to an error.
func withLog(err error, s *pulseproc.Server) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; the server's log ends with:\n%s", err, s.Log())
}

// timings are the durations of requests, in ascending order.
type timings []time.Duration

// part returns the time within which this share of the requests was answered; 0.5 gives the median.
func (t timings) part(of float64) time.Duration { return t[min(int(of*float64(len(t))), len(t)-1)] }

// timed sends questions one after the other over one connection. It stops after n questions or at
// the time limit.
func timed(ctx context.Context, n int, limit time.Duration, question func() (*http.Request, error)) (timings, error) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var took timings
	for began := time.Now(); len(took) < n && (time.Since(began) < limit || len(took) == 0); {
		request, err := question()
		if err != nil {
			return nil, err
		}
		request.Header.Set("X-AUTH-TOKEN", "secret")
		asked := time.Now()
		response, err := client.Do(request.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		answer, err := io.ReadAll(response.Body)
		took = append(took, time.Since(asked))
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || strings.HasSuffix(string(answer), `"statement_id":0}]}`+"\n") {
			return nil, fmt.Errorf("%s: %d %.300s: %w", request.URL, response.StatusCode, answer, err)
		}
	}
	slices.Sort(took)
	return took, nil
}
