package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// 1,000 alerts over 100,000 series: ten series of each of 10,000 relays.
	alertCount               = 1000
	alertRelays, alertSeries = 10_000, 100_000
	// alertsLimit is how much of one core the alerts may cost.
	alertsLimit = 0.1
	// alertEvery is how often each alert is evaluated. This is six times as often as by default, so
	// that each measurement has one evaluation in it.
	alertEvery = 5 * time.Second
	// The server is measured with and without the alerts in turn, for as long as alertEvery.
	alertRounds, alertRoundsLong = 2, 20
)

// alert returns the i-th of 1,000 alerts that never fire. Each alert is about all relays, so each
// reading has to be added to 100 alerts.
func alert(i int) kapa.Alert {
	return kapa.Alert{Metric: relaytest.FleetStat(i % (alertSeries / alertRelays)), Operator: kapa.Greater, Threshold: 1e12,
		Level: kapa.Warn, Duration: kapa.Duration(5 * time.Minute), Every: kapa.Duration(alertEvery), Post: "http://127.0.0.1:9/"}
}

// runAlerts measures what the built-in evaluator costs: the CPU of a server with and without the
// alerts under the same load, and the evaluator alone.
func (b *bench) runAlerts(ctx context.Context) (err error) {
	s, err := b.server("alerts", time.Hour)
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	defer func() { err = withLog(err, s) }()
	crowd, err := newCrowd(ctx, s.RelayAddr, alertRelays, alertSeries, seriesEvent)
	if err != nil {
		return err
	}
	defer crowd.close()
	if err := crowd.fill(ctx, s); err != nil {
		return err
	}
	if err := b.alertsInServer(ctx, s, crowd); err != nil {
		return err
	}
	return b.alertsAlone(ctx)
}

func (b *bench) alertsInServer(ctx context.Context, s *pulseproc.Server, c *crowd) error {
	rounds := alertRounds
	if b.long {
		rounds = alertRoundsLong
	}
	measured := func() (share time.Duration, err error) { // CPU time per second
		_, used, err := c.measure(ctx, s, alertEvery)
		return time.Duration(used.cpu.Seconds() / used.took.Seconds() * float64(time.Second)), err
	}
	// The lowest of each counts, because InfluxDB's compactions come at any time.
	best, err := quickest(rounds, measured, func() (time.Duration, error) {
		if err := addAlerts(ctx, s); err != nil {
			return 0, err
		}
		share, err := measured()
		if err != nil {
			return 0, err
		}
		return share, dropAlerts(ctx, s)
	})
	if err != nil {
		return err
	}
	without, with := best[0].Seconds(), best[1].Seconds()
	b.add(fmt.Sprintf("alerts: CPU of the server for %d of all relays each, %d readings/s of 100k series", alertCount, seriesRate),
		with-without < alertsLimit, "10 % of a core", "%.1f %% (%.1f %% with, %.1f %% without them)", 100*(with-without), 100*with, 100*without)
	return nil
}

// addAlerts adds the alerts over HTTP.
func addAlerts(ctx context.Context, s *pulseproc.Server) error {
	for i := range alertCount {
		a := alert(i)
		body, err := json.Marshal(map[string]any{"metric": a.Metric, "level": a.Level, "operator": a.Operator,
			"threshold": a.Threshold, "duration": a.Duration, "every": a.Every, "post": a.Post}) // an alert without an id
		if err != nil {
			return err
		}
		if err := s.Post("/alerts", string(body)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// dropAlerts deletes all alerts.
func dropAlerts(ctx context.Context, s *pulseproc.Server) error {
	var alerts []struct{ ID string }
	if err := s.Get("/alerts", &alerts); err != nil {
		return err
	}
	if len(alerts) != alertCount {
		return fmt.Errorf("the server has %d alerts, not %d", len(alerts), alertCount)
	}
	for _, a := range alerts {
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+s.HTTPAddr+"/alerts/"+a.ID, nil)
		if err != nil {
			return err
		}
		request.Header.Set("X-AUTH-TOKEN", "secret")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("DELETE %s: %d: %w", request.URL, response.StatusCode, err)
		}
	}
	return nil
}

// alertsAlone has the evaluator alone take readings of the same number of series, in one goroutine.
func (b *bench) alertsAlone(ctx context.Context) error {
	f, err := b.benchmarks(ctx, "kapa")
	if err != nil {
		return err
	}
	if err := f.run(ctx, 1, "^BenchmarkThousandAlerts$/1,000_relays_a_second$", "60x"); err != nil {
		return err
	}
	for _, set := range [][2]string{{"by_host", "of one relay each"}, {"on_everything", "of all relays each"}} {
		name := "BenchmarkThousandAlerts/" + set[0] + ",_1,000_relays_a_second"
		share := f.of(name, "%core") / 100
		b.add(fmt.Sprintf("alerts: CPU of the evaluator alone, %d %s", alertCount, set[1]), share < alertsLimit, "10 % of a core",
			"%.1f %% (%.0f ns a reading)", 100*share, f.of(name, "ns/reading"))
	}
	return f.err()
}
