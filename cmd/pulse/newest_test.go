package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
)

// After an outage, new readings are in InfluxDB before the outage is filled in.
func TestNewestFirst(t *testing.T) {
	t.Parallel()
	const relays, events = 30, 400
	db := testtools.StartInfluxd(t, testtools.InfluxDB18)
	proxy := testtools.StartProxy(t, db.Addr)
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, dir, "--influx-address", proxy.Addr, "-p", "3600", "-a", "1")
	fleet := newPushers(s.RelayAddr, relays, 2, rand.New(rand.NewPCG(1, 2)))
	defer fleet.stop()
	push := func(n int) {
		t.Helper()
		if err := fleet.push(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	push(1)
	awaitProjected(t, s)
	proxy.Set(testtools.Refuse)
	push(events)
	proxy.Set(testtools.Slow) // a batch a second, so that the backlog is visible
	backlog := func() uint64 {
		var status serverStatus
		if err := s.Get("/status", &status); err != nil {
			t.Fatal(err)
		}
		return status.intoInflux()[0].Backlog
	}
	await(t, s, "the end of the outage to be noticed", 3*time.Minute, func() error {
		if backlog() == 0 {
			return errors.New("nothing is being filled in")
		}
		return nil
	})
	push(1)
	store := openExternal(t, db.Addr)
	defer store.Close()
	query := func(what string) (n float64) {
		rows, err := store.Query(t.Context(), fmt.Sprintf(`SELECT %s("stat_0") FROM "one_day"."stat_0"`, what), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) > 0 {
			n = rows[0].Values[0][1].(float64)
		}
		return n
	}
	await(t, s, "the newest readings in InfluxDB", 3*time.Minute, func() error {
		if n := query("max"); n != events+2 {
			return fmt.Errorf("the newest is %v", n)
		}
		return nil
	})
	if there, all := query("count"), float64(relays*(events+2)); there > all*3/4 || backlog() == 0 {
		t.Errorf("%v of %v readings were there with the newest, and %d records are left to be filled in", there, all, backlog())
	}
	proxy.Set(testtools.Healthy)
	awaitProjected(t, s)
	fleet.stop()
	stopProjected(t, s)
	want := recount(t, dir)
	fleet.check(t, want)
	compareWithExternal(t, db.Addr, want)
}

// Readings that InfluxDB refused because of its limits are written by a replay after the limits
// were raised, and then are no longer listed.
func TestSeriesLimitRaised(t *testing.T) {
	t.Parallel()
	limit := func(n int) testtools.Setting {
		return testtools.Setting{Section: "data", Line: fmt.Sprintf("max-series-per-database = %d", n)}
	}
	db := testtools.StartInfluxd(t, testtools.InfluxDB18, limit(40))
	dir := filepath.Join(t.TempDir(), "data")
	clock := newClock(t)
	s := clock.newServer(t, dir, "--influx-address", db.Addr, "-p", "3600", "-a", "1")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := newPushers(s.RelayAddr, 20, 4, rand.New(rand.NewPCG(1, 2)))
	defer fleet.stop()
	push := func() {
		t.Helper()
		if err := fleet.push(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}
	push()
	clock.step(t, afterWindow)
	push()
	rejects := func() (n int) {
		var list []any
		if err := s.Get("/rejects", &list); err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	awaitProjected(t, s)
	if rejects() == 0 {
		t.Fatal("nothing was refused")
	}
	db.Configure(limit(0))
	db.Restart()
	clock.step(t, 11*time.Minute) // refused series are left alone for ten minutes
	push()
	if err := postReplay(s, askedReplay{Projection: "all", From: clock.now().Add(-time.Hour).UTC().Format(time.RFC3339)}); err != nil {
		t.Fatal(err)
	}
	awaitProjected(t, s)
	awaitReplays(t, s)
	if n := rejects(); n != 0 {
		t.Errorf("%d rejects are listed after the replay", n)
	}
	fleet.stop()
	stopProjected(t, s)
	compareWithExternal(t, db.Addr, recount(t, dir))
}

// If InfluxDB loses everything within a second after the start, before the first position was
// saved, it is filled again too.
func TestWipedRightAfterTheStart(t *testing.T) {
	t.Parallel()
	db := testtools.StartInfluxd(t, testtools.InfluxDB18)
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, dir, "--influx-address", db.Addr, "-p", "3600", "-a", "1")
	fleet := newPushers(s.RelayAddr, 5, 2, rand.New(rand.NewPCG(1, 2)))
	defer fleet.stop()
	store := openExternal(t, db.Addr)
	defer store.Close()
	for range 2 {
		if err := fleet.push(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		awaitProjected(t, s)
		if _, err := store.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := fleet.push(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	awaitProjected(t, s)
	fleet.stop()
	stopProjected(t, s)
	compareWithExternal(t, db.Addr, recount(t, dir))
}
