package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestHubClocks has an edge whose clock is ahead, one whose clock is behind, and one whose clock jumps,
// with and without a link. The hub's InfluxDB equals a recount of their journals. A live reading of
// each is in /latest of the hub.
func TestHubClocks(t *testing.T) {
	t.Parallel()
	s := newSites(t, "ahead", "behind", "jumps")
	clocks := make([]*wrongClock, len(s.edges))
	for i, e := range s.edges {
		e.down()
		clocks[i] = newClock(t)
		clocks[i].step(t, []time.Duration{time.Hour, -2 * time.Hour, 0}[i])
		e.server = clocks[i].newServer(t, e.dir, e.args()...)
		e.up()
		e.start(20, 1)
	}
	for _, e := range s.edges {
		var newest stat
		path := "/latest/stat_0?edge=" + e.name + "&host=" + relaytest.FleetID(0)
		await(t, s.hub, path, time.Minute, func() error { return s.hub.Get(path, &newest) })
	}
	polled := func(n uint64) {
		t.Helper()
		for _, e := range s.edges {
			n := e.fleet.Polls() + n
			await(t, e.server, "polls", time.Minute, func() error {
				if have := e.fleet.Polls(); have < n {
					return fmt.Errorf("%d of %d", have, n)
				}
				return nil
			})
		}
	}
	jumps := s.edges[2]
	for i, d := range []time.Duration{-90 * time.Second, 10 * time.Minute, -20 * time.Minute} {
		polled(40)
		if i == 1 {
			jumps.wire.cut()
		}
		clocks[2].step(t, d)
		clocks[2].awaitRead(t, jumps.server)
	}
	polled(40)
	jumps.wire.mend()
	polled(20)
	has := s.stop()
	for i, e := range s.edges {
		compareWithInflux(t, e.dir, recount(t, e.dir))
		t.Logf("%s: its clock is off by %v", e.name, clocks[i].offset)
	}
	compareHub(t, s.dir, has)
}
