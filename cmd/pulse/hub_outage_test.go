package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestHubOutages cuts the links of two edges under load, and then makes black holes of them. The edges
// go on meanwhile, and both ends say that there is no link. In the end the hub has every event of both
// once, in order, and its InfluxDB equals a recount of the edges' journals, also when it is wiped and
// filled again. Relays of both edges, and of the hub itself, have the same ids, and stay apart.
//
// PULSE_HUB_RELAYS=1000 PULSE_HUB_SECONDS=60 makes it as long as the budget: 60 s and 40 s under 2,000
// events a second.
func TestHubOutages(t *testing.T) {
	relays, seconds := fromEnvironment(t, "PULSE_HUB_RELAYS", 100), fromEnvironment(t, "PULSE_HUB_SECONDS", 6)
	s := newSites(t, "ams1", "fra1")
	own := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.hub.RelayAddr, N: 5, Stats: 2})
	defer own.Stop()
	if err := own.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.edges {
		e.start(relays, 1)
	}
	for _, host := range []string{"", "&edge=ams1", "&edge=fra1"} {
		var newest stat
		path := "/latest/stat_0?host=" + relaytest.FleetID(0) + host
		await(t, s.hub, path, time.Minute, func() error { return s.hub.Get(path, &newest) })
	}
	for _, trouble := range []struct {
		name       string
		lasts      time.Duration
		begin, end func(*cable)
	}{
		{"cut", time.Duration(seconds) * time.Second, (*cable).cut, (*cable).mend},
		{"black hole", time.Duration(max(6, seconds*2/3)) * time.Second, (*cable).dig, (*cable).fill},
	} {
		for _, e := range s.edges {
			e.nearlyLevel(t)
		}
		began := time.Now()
		polls := make([]uint64, len(s.edges))
		for i, e := range s.edges {
			polls[i] = e.fleet.Polls()
			trouble.begin(e.wire)
		}
		for _, e := range s.edges {
			await(t, s.hub, trouble.name+": both ends say that the link is down", 10*time.Second, e.isDown)
		}
		time.Sleep(time.Until(began.Add(trouble.lasts))) // the outage itself
		had := make([]link.Edge, len(s.edges))
		for i, e := range s.edges {
			if n := e.fleet.Polls() - polls[i]; float64(n) < 0.8*float64(relays)*trouble.lasts.Seconds()-float64(relays) {
				t.Errorf("%s: %s answered only %d polls meanwhile", trouble.name, e.name, n)
			}
			var err error
			if had[i], err = s.seen(e.name); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range s.edges {
			trouble.end(e.wire)
		}
		back := time.Now()
		for i, e := range s.edges {
			await(t, s.hub, trouble.name+": the first new event of "+e.name, time.Minute, func() error {
				now, err := s.seen(e.name)
				if err == nil && now.Has <= had[i].Has {
					err = fmt.Errorf("the hub says %+v", now)
				}
				return err
			})
			took := time.Since(back)
			t.Logf("%s: the first new event of %s after %v", trouble.name, e.name, took.Round(time.Millisecond))
			if took > 3*time.Second {
				t.Errorf("%s: the first new event of %s came %v after the link was back", trouble.name, e.name, took)
			}
		}
		for _, e := range s.edges {
			e.nearlyLevel(t)
		}
		t.Logf("%s: all is there after %v", trouble.name, time.Since(back).Round(time.Millisecond))
	}
	own.Finish()
	has := s.stop()
	for _, e := range s.edges {
		if n := e.fleet.Disconnects(); n > 0 {
			t.Errorf("%d relays of %s lost their connection: %v", n, e.name, e.fleet.Err())
		}
	}
	for _, e := range s.edges {
		compareWithInflux(t, e.dir, recount(t, e.dir))
	}
	compareHub(t, s.dir, has)

	// An InfluxDB that lost everything is filled again, with the edges.
	if err := os.RemoveAll(filepath.Join(s.dir, "influx")); err != nil {
		t.Fatal(err)
	}
	s.hubUp()
	awaitProjected(t, s.hub)
	stopProjected(t, s.hub)
	compareHub(t, s.dir, has)
}

// nearlyLevel waits until the hub has all but what is on its way under load.
func (e *site) nearlyLevel(t *testing.T) {
	t.Helper()
	await(t, e.server, "the hub has nearly all of "+e.name, 2*time.Minute, func() error {
		up, err := e.uplink()
		if err == nil && (up.State != link.StateConnected || up.Lacks > uint64(1000)) {
			err = fmt.Errorf("the edge says %+v", up)
		}
		return err
	})
}

// isDown returns nil if both ends say that there is no link, and since when.
func (e *site) isDown() error {
	up, err := e.uplink()
	if err != nil {
		return err
	}
	seen, err := e.all.seen(e.name)
	if err != nil {
		return err
	}
	if up.State != link.StateConnecting || up.Error == "" || seen.State != link.StateSilent || time.Since(seen.Since) > time.Minute {
		return fmt.Errorf("the edge says %+v, the hub %+v", up, seen)
	}
	return nil
}
