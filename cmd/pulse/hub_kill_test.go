package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// TestHubKill9 kills the hub, the edges and the links at random moments under load. In the end every
// event that an edge confirmed to its relays is in its journal, and the hub has every event of the
// journals once, in order. The InfluxDB of each equals a recount.
func TestHubKill9(t *testing.T) {
	relays, rounds := fromEnvironment(t, "PULSE_HUB_RELAYS", 50), fromEnvironment(t, killRounds, 5)
	s := newSites(t, "ams1", "fra1")
	for _, e := range s.edges {
		e.start(relays, 1)
		e.push()
		e.backlog = newPushers(e.server.RelayAddr, 4, 1, rand.New(rand.NewPCG(3, 4)))
		for i, r := range e.backlog.relays {
			r.id = fmt.Sprint("backlog-", i)
		}
		defer e.backlog.stop()
	}
	while := func(longest time.Duration) { time.Sleep(rand.N(longest)) } // the trouble itself
	launch := func(servers ...*pulseproc.Server) {
		t.Helper()
		for _, p := range servers {
			if err := p.Launch(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range servers {
			await(t, p, "accepting again", time.Minute, p.Welcomes)
		}
	}
	kinds := []struct {
		name string
		play func(e *site)
	}{
		{"hub killed", func(*site) { s.hub.Kill(); while(2 * time.Second); launch(s.hub) }},
		{"edge killed", func(e *site) { e.server.Kill(); while(2 * time.Second); launch(e.server) }},
		{"link cut, and the hub killed meanwhile", func(e *site) {
			e.wire.cut()
			while(time.Second)
			s.hub.Kill()
			launch(s.hub)
			e.wire.mend()
		}},
		{"hub killed while it catches up", func(e *site) {
			e.wire.cut()
			await(t, e.server, "a backlog", time.Minute, func() error { return e.backlog.push(t.Context(), 2000) })
			e.wire.mend()
			while(500 * time.Millisecond)
			s.hub.Kill()
			launch(s.hub)
		}},
		{"hub and edge killed", func(e *site) {
			s.hub.Kill()
			e.server.Kill()
			while(time.Second)
			launch(e.server, s.hub)
		}},
		{"hub killed, and again while it starts and while it catches up", func(e *site) {
			killStarting(t, s.hub)
			while(2 * time.Second)
			launch(s.hub)
			while(time.Second)
			s.hub.Kill()
			launch(s.hub)
		}},
		{"edge killed while it starts", func(e *site) { killStarting(t, e.server); launch(e.server) }},
		{"black hole, and the edge killed meanwhile", func(e *site) {
			e.wire.dig()
			while(5 * time.Second)
			e.server.Kill()
			launch(e.server)
			e.wire.fill()
		}},
		{"link cut twice", func(e *site) {
			for range 2 {
				e.wire.cut()
				while(time.Second)
				e.wire.mend()
				while(time.Second)
			}
		}},
		{"hub killed while it stops", func(*site) { killDraining(t, s.hub); launch(s.hub) }},
		{"everything killed", func(*site) {
			s.hub.Kill()
			for _, e := range s.edges {
				e.server.Kill()
			}
			launch(s.edges[0].server, s.edges[1].server, s.hub)
		}},
	}
	for round := range rounds {
		kind := kinds[round%len(kinds)]
		e := s.edges[rand.IntN(len(s.edges))]
		while(time.Second)
		kind.play(e)
		t.Logf("round %d: %s (%s)", round, kind.name, e.name)
		if round%3 == 2 { // some troubles come while the hub still catches up
			for _, e := range s.edges {
				e.nearlyLevel(t)
			}
		}
	}
	for _, e := range s.edges {
		e.pushed()
		e.backlog.stop()
	}
	has := s.stop()
	for _, e := range s.edges {
		own := recount(t, e.dir)
		e.pushers.check(t, own)
		e.backlog.check(t, own)
		compareWithInflux(t, e.dir, own)
	}
	compareHub(t, s.dir, has)
	for _, e := range s.edges {
		if e.confirmed == 0 {
			t.Errorf("%s confirmed nothing", e.name)
		}
	}
}

// push begins relays at an edge that note what it confirmed. They come back after a kill.
func (e *site) push() {
	e.pushers = newPushers(e.server.RelayAddr, 2, 1, rand.New(rand.NewPCG(1, 2)))
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := e.pushers.push(context.Background(), 5); err == nil { // after a kill it fails for a while
				e.confirmed += 5
			}
		}
	})
	e.pushed = sync.OnceFunc(func() {
		stop()
		work.Wait()
		e.pushers.stop()
	})
	e.t.Cleanup(e.pushed)
}
