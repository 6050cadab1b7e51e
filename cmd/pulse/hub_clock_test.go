package main

import (
	"fmt"
	"testing"
	"time"
)

// TestHubClocks has an edge whose clock is ahead, one whose clock is behind, and one whose clock jumps,
// with and without a link: so the hub catches up with hours that came in one breath. The hub's InfluxDB equals a recount of their journals.
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
	polled := func(n uint64) {
		t.Helper()
		until := make([]uint64, len(s.edges))
		for i, e := range s.edges {
			until[i] = e.fleet.Polls() + n
		}
		for i, e := range s.edges {
			await(t, e.server, "polls", time.Minute, func() error {
				if have := e.fleet.Polls(); have < until[i] {
					return fmt.Errorf("%d of %d", have, until[i])
				}
				return nil
			})
		}
	}
	jumps := s.edges[2]
	for i, d := range []time.Duration{-90 * time.Second, -6 * time.Hour, 10 * time.Minute, -20 * time.Minute, 3 * time.Hour, 3 * time.Hour} {
		polled(20)
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
