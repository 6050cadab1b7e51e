package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/kapa"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	// A thousand alerts over 100,000 series: of each of 10,000 relays ten.
	alertCount               = 1000
	alertRelays, alertSeries = 10_000, 100_000
	// alertsLimit is how much of one core they may cost.
	alertsLimit = 0.1
	// alertEvery is how often each is evaluated: six times as often as by
	// default, so that each measurement has one evaluation in it.
	alertEvery = 5 * time.Second
	// The server is measured without and with them in turn, for as long as alertEvery.
	alertRounds, alertRoundsLong = 2, 20
)

// An alertSet is a thousand alerts that never fire. What they cost depends on
// how many of them a reading has to be added to.
type alertSet struct {
	name string
	tags func(i int) map[string]string
}

var alertSets = []alertSet{
	{"of one relay each", func(i int) map[string]string { return map[string]string{"host": relaytest.FleetID(i)} }},
	{"of all relays each", func(int) map[string]string { return nil }},
}

// alert is the i-th alert of the set.
func (s *alertSet) alert(i int) kapa.Alert {
	return kapa.Alert{Metric: relaytest.FleetStat(i % (alertSeries / alertRelays)), Tags: s.tags(i), Operator: kapa.Greater, Threshold: 1e12,
		Level: kapa.Warn, Duration: kapa.Duration(5 * time.Minute), Every: kapa.Duration(alertEvery), Post: "http://127.0.0.1:9/"}
}

// runAlerts measures what the built-in evaluator costs: the CPU of a server with
// and without the alerts, under the same load, and the evaluator alone.
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
	if err := b.alertsInServer(ctx, s, crowd, &alertSets[1]); err != nil {
		return err
	}
	for i := range alertSets {
		if err := b.alertsAlone(ctx, &alertSets[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) alertsInServer(ctx context.Context, s *pulseproc.Server, c *crowd, set *alertSet) error {
	rounds := alertRounds
	if b.long {
		rounds = alertRoundsLong
	}
	measured := func() (share time.Duration, err error) { // of a second
		_, used, err := c.measure(ctx, s, alertEvery)
		return time.Duration(used.cpu.Seconds() / used.took.Seconds() * float64(time.Second)), err
	}
	// The lowest of each: InfluxDB's compactions come when they like.
	best, err := quickest(rounds, measured, func() (time.Duration, error) {
		if err := addAlerts(ctx, s, set); err != nil {
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
	b.add(fmt.Sprintf("alerts: CPU of the server for %d %s, %d readings/s of 100k series", alertCount, set.name, seriesRate),
		with-without < alertsLimit, "10 % of a core", "%.1f %% (%.1f %% with, %.1f %% without them)", 100*(with-without), 100*with, 100*without)
	return nil
}

// addAlerts adds the alerts over HTTP.
func addAlerts(ctx context.Context, s *pulseproc.Server, set *alertSet) error {
	for i := range alertCount {
		a := set.alert(i)
		body, err := json.Marshal(map[string]any{"metric": a.Metric, "tags": a.Tags, "level": a.Level, "operator": a.Operator,
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

// alertsAlone has the evaluator take the events of some minutes, in batches as a
// runner has them, and ticks, in this goroutine alone.
func (b *bench) alertsAlone(ctx context.Context, set *alertSet) (err error) {
	const span, perSecond, batch = 2 * time.Minute, seriesRate / seriesEvent, 10
	state, err := migrations.Open(filepath.Join(b.dir, "alerts-alone "+set.name), migrations.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	now := time.Now()
	end := &journalEnd{}
	alerts, err := kapa.New(kapa.Options{DB: state.DB, Instance: "bench", Journal: end, Now: func() time.Time { return now }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alerts.Stop(ctx)) }()
	for i := range alertCount {
		if _, err := alerts.Create(set.alert(i)); err != nil {
			return err
		}
	}
	evaluator := alerts.Projection()
	evaluator.Reset(0)
	var records []journal.Record
	for i := range alertRelays {
		e := &codec.Event{Relay: relaytest.FleetID(i), Collectors: []codec.Collector{{Name: relaytest.FleetCollector(0), Tags: crowdTags(i)}}}
		for k := range alertSeries / alertRelays {
			e.Collectors[0].Stats = append(e.Collectors[0].Stats, codec.Stat{ID: relaytest.FleetStat(k), Value: float64(k)})
		}
		records = append(records, journal.Record{Event: e})
	}
	began, cpu := time.Now(), ownCPU()
	for n := 0; n < int(span.Seconds())*perSecond; n += batch {
		some := records[n%len(records):][:batch]
		now = now.Add(time.Second * batch / perSecond)
		for i := range some {
			end.last++
			some[i].Seq, some[i].Event.Time = end.last, now.UnixNano()
		}
		if _, err := evaluator.Apply(ctx, some); err != nil {
			return err
		}
		if n%perSecond == 0 {
			if _, err := evaluator.Tick(ctx, now); err != nil {
				return err
			}
		}
	}
	share, took := (ownCPU()-cpu).Seconds()/span.Seconds(), time.Since(began)
	b.add(fmt.Sprintf("alerts: CPU of the evaluator alone, %d %s", alertCount, set.name), share < alertsLimit, "10 % of a core",
		"%.1f %% (%s of readings in %.1f s)", 100*share, span, took.Seconds())
	return nil
}

// journalEnd is the journal as the evaluator asks it: nothing is ever behind what it was given.
type journalEnd struct{ last uint64 }

func (j *journalEnd) State(context.Context) (journal.State, error) {
	return journal.State{LastSeq: j.last}, nil
}
