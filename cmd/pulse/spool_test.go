package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal/codec"
)

// TestSpoolLosesNothing kills the server, the agents and the link at random moments. In the end
// everything that the agents sampled is in the journal once, and raw points and aggregates equal a
// recount.
func TestSpoolLosesNothing(t *testing.T) {
	const agents = 12
	rounds := fromEnvironment(t, killRounds, 7)
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN")
	wire := newLink(t, s.RelayAddr)
	all := make([]*countedAgent, agents)
	for i := range all {
		all[i] = &countedAgent{t: t, id: fmt.Sprintf("agent-%02d", i), dir: t.TempDir(), to: wire.address()}
		all[i].start()
		t.Cleanup(func() { _ = all[i].cmd.Process.Kill() }) // it has ended unless the test failed
	}
	launch := func() {
		t.Helper()
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
		await(t, s, "accepting again", time.Minute, s.Welcomes)
	}
	while := func(longest time.Duration) { time.Sleep(rand.N(longest)) } // the trouble itself
	kinds := []struct {
		name string
		play func()
	}{
		{"server killed", func() { s.Kill(); while(4 * time.Second); launch() }},
		{"link cut", func() { wire.cut(); while(4 * time.Second); wire.mend() }},
		{"agents killed", func() {
			for _, a := range all[:agents/2] {
				a.end(syscall.SIGKILL)
			}
			while(2 * time.Second)
			for _, a := range all[:agents/2] {
				a.start()
			}
		}},
		{"black hole", func() { wire.dig(); while(4 * time.Second); wire.fill() }},
		{"server and agents killed", func() {
			s.Kill()
			for _, a := range all[agents/2:] {
				a.end(syscall.SIGKILL)
				a.start()
			}
			while(3 * time.Second)
			launch()
		}},
		{"server killed twice", func() {
			s.Kill()
			launch()
			while(time.Second)
			s.Kill()
			while(2 * time.Second)
			launch()
		}},
		{"server stopped", func() { stopProjected(t, s); while(3 * time.Second); launch() }},
	}
	for round := range rounds {
		kind := kinds[round%len(kinds)]
		while(2 * time.Second)
		kind.play()
		t.Logf("round %d: %s", round, kind.name)
	}
	await(t, s, "nothing waits in a spool", 2*time.Minute, func() error { return nothingWaits(s, all) })
	for _, a := range all {
		a.end(syscall.SIGTERM)
	}
	stopProjected(t, s)
	want := recount(t, dir) // which fails if a value is there twice
	compareWithInflux(t, dir, want)
	has, past := make(map[string]bool), 0
	readJournal(t, dir, func(_ uint64, e *codec.Event) {
		if e.Past {
			past++
		}
		has[key(e.Relay, "stat_0", int64(e.Collectors[0].Stats[0].Value))] = true
	})
	samples, missing := 0, 0
	for _, a := range all {
		list := a.sampled()
		for i, v := range list {
			samples++
			// What was sampled in the moment of a kill is in no spool. What was sampled in the moment
			// before the end waits in one.
			last := i+1 == len(list) || int(list[i+1])/lifeOfAgent != int(v)/lifeOfAgent
			switch {
			case has[key(a.id, "stat_0", int64(v))]:
			case last, i+3 > len(list):
				missing++
			default:
				t.Errorf("%s sampled %.0f, which is not in the journal", a.id, v)
			}
		}
	}
	t.Logf("%d samples, %d events, %d of them from the past; %d samples of the last moment of a life are missing", samples, want.events, past, missing)
	if past == 0 {
		t.Error("nothing came from a spool")
	}
}

// nothingWaits returns an error unless every agent is connected, and nothing waits in its spool or
// was dropped from it.
func nothingWaits(s *pulseproc.Server, agents []*countedAgent) error {
	var relays []struct {
		ID        string
		Connected bool
		Spool     *struct{ Waiting, Dropped uint64 }
	}
	if err := s.Get("/relays", &relays); err != nil {
		return err
	}
	for _, r := range relays {
		switch {
		case !r.Connected || r.Spool == nil:
			return fmt.Errorf("%s is not there", r.ID)
		case r.Spool.Waiting > 0 || r.Spool.Dropped > 0:
			return fmt.Errorf("%s: %d wait, %d were dropped", r.ID, r.Spool.Waiting, r.Spool.Dropped)
		}
	}
	if len(relays) != len(agents) {
		return fmt.Errorf("%d of %d agents", len(relays), len(agents))
	}
	return nil
}
