package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestDiskFull fills the disk of a server under load, and frees it again. The server still polls
// and answers, counts every reading that it loses, and refuses requests that it cannot store. When
// there is space again, it recovers by itself.
func TestDiskFull(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		testDiskFull(t, "embedded")
	})
	t.Run("external", func(t *testing.T) {
		t.Parallel()
		testDiskFull(t, testtools.StartInfluxd(t, testtools.InfluxDB18).Addr)
	})
}

func testDiskFull(t *testing.T, influxAddress string) {
	const relays, newRelays = 100, 20
	disk := testtools.SmallDisk(t, 64)
	dir := filepath.Join(disk, "data")
	s := startServer(t, dir, "--influx-address", influxAddress, "-p", "1", "-a", "1", "-l", "WARN")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 2*relays)

	free := testtools.FillDisk(t, disk)
	await(t, s, "/readyz says that the disk is full", time.Minute, func() error {
		err := s.Get("/readyz", new(any))
		if err == nil || !strings.Contains(err.Error(), ": 503 ") || !strings.Contains(err.Error(), "the disk is nearly full") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	// Unknown relays connect, with more collectors than the state file has room for.
	newcomers := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: newRelays, Collectors: 200,
		ID: func(i int) string { return fmt.Sprint("newcomer ", i) }})
	defer newcomers.Stop()
	if err := newcomers.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, newcomers, newRelays)
	awaitPolls(t, s, fleet, 3*relays)
	if err := s.Get("/latest/stat_0", new(stat)); err != nil && !strings.Contains(err.Error(), "no reading of stat_0") {
		t.Errorf("/latest: %v", err) // no reading: readings that are not journaled are not shown
	}
	await(t, s, "a registration that cannot be stored", time.Minute, func() error {
		return atLeastOne(s, "pulse_ingest_registry_write_errors_total")
	})
	// A confirmed override stays, and a refused override has no effect.
	const override = `{"collectors":{"c0":1},"duration":3600}`
	overrides := 0
	await(t, s, "an override that is refused", time.Minute, func() error {
		err := s.Post("/overrides", override)
		if err == nil {
			overrides++
			return fmt.Errorf("%d were taken", overrides)
		}
		return nil
	})
	if have := listed(t, s, "/overrides"); have != overrides {
		t.Errorf("%d overrides are listed, %d were acknowledged", have, overrides)
	}
	if err := atLeastOne(s, "pulse_ingest_readings_lost_total"); err != nil {
		t.Error(err)
	}

	free()
	freed := time.Now()
	before, err := s.Metric("pulse_journal_appended_readings_total")
	if err != nil {
		t.Fatal(err)
	}
	await(t, s, "appending again", time.Minute, func() error {
		if now, err := s.Metric("pulse_journal_appended_readings_total"); err != nil || now == before {
			return fmt.Errorf("%v readings as before (%v)", now, err)
		}
		return s.Get("/readyz", new(any))
	})
	t.Logf("appending %v after there was space", time.Since(freed).Round(time.Millisecond))
	if err := s.Post("/overrides", override); err != nil {
		t.Error(err)
	}
	overrides++
	await(t, s, "every projection going on", time.Minute, func() error { return allLive(s) })
	t.Logf("all is well %v after there was space", time.Since(freed).Round(time.Millisecond))
	awaitPolls(t, s, fleet, relays)

	lost, err := s.Metric("pulse_ingest_readings_lost_total")
	if err != nil {
		t.Fatal(err)
	}
	stopProjected(t, s)
	sent := fleet.Sent() + newcomers.Sent()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if have := listed(t, s, "/overrides"); have != overrides {
		t.Errorf("%d overrides are listed after a restart, %d were acknowledged", have, overrides)
	}
	if have := listed(t, s, "/relays"); have != relays+newRelays {
		t.Errorf("%d relays are listed after a restart, %d are known", have, relays+newRelays)
	}
	stopProjected(t, s)
	want := recount(t, dir)
	if got := uint64(len(want.raw)) + uint64(lost); got != sent {
		t.Errorf("%d readings were sent; %d in the journal and %v lost are %d", sent, len(want.raw), lost, got)
	}
	if influxAddress == "embedded" {
		compareWithInflux(t, dir, want)
	} else {
		compareWithExternal(t, influxAddress, want)
	}
}

// awaitPolls waits for n more polls of a fleet.
func awaitPolls(t *testing.T, s *pulseproc.Server, fleet *relaytest.Fleet, n uint64) {
	t.Helper()
	n += fleet.Polls()
	await(t, s, "polls", time.Minute, func() error {
		if have := fleet.Polls(); have < n {
			return fmt.Errorf("%d of %d", have, n)
		}
		return nil
	})
}

func atLeastOne(s *pulseproc.Server, counter string) error {
	n, err := s.Metric(counter)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s is 0", counter)
	}
	return err
}

// listed returns how many entries the list at path has.
func listed(t *testing.T, s *pulseproc.Server, path string) int {
	t.Helper()
	var list []any
	if err := s.Get(path, &list); err != nil {
		t.Error(err)
	}
	return len(list)
}

// allLive returns nil if the server is ready and no projection lags.
func allLive(s *pulseproc.Server) error {
	var status struct {
		State       string
		Projections []struct{ Name, State string }
	}
	if err := s.Get("/status", &status); err != nil {
		return err
	}
	for _, p := range status.Projections {
		if status.State != "ready" || !slices.Contains([]string{"live", "stopped"}, p.State) {
			return fmt.Errorf("%+v", status)
		}
	}
	return nil
}
