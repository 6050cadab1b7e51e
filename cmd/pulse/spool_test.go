package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
	agents, rounds := fromEnvironment(t, "PULSE_SPOOL_AGENTS", 12), fromEnvironment(t, killRounds, 7)
	cutFor := time.Duration(fromEnvironment(t, "PULSE_SPOOL_SECONDS", 5)) * time.Second
	began := time.Now()
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
	wire.cut()
	time.Sleep(cutFor)
	wire.mend()
	await(t, s, "nothing waits in a spool", 5*time.Minute, func() error { return nothingWaits(s, all) })
	for _, a := range all {
		a.end(syscall.SIGTERM)
	}
	seconds := int(time.Since(began).Seconds())
	stopProjected(t, s)
	want := recount(t, dir) // which fails if a value is there twice
	compareWithInflux(t, dir, want)
	has, past := make(map[string]bool), 0
	times := make(map[string][]int64) // of each life of an agent
	readJournal(t, dir, func(_ uint64, e *codec.Event) {
		if e.Past {
			past++
		}
		life := fmt.Sprint(e.Relay, " ", int(e.Collectors[0].Stats[0].Value)/lifeOfAgent)
		times[life] = append(times[life], e.Time)
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
	var longest time.Duration
	long := 0
	for _, list := range times {
		slices.Sort(list)
		for i := range list[1:] {
			gap := time.Duration(list[i+1] - list[i])
			if longest = max(longest, gap); gap > 1600*time.Millisecond {
				long++
			}
		}
	}
	t.Logf("the longest time between two readings of an agent that ran was %v; %d were longer than 1.6 s", longest, long)
	t.Logf("%d samples, %d events, %d of them from the past; %d samples of the last moment of a life are missing", samples, want.events, past, missing)
	if past == 0 {
		t.Error("nothing came from a spool")
	}
	// A poll comes each second, and one at once to each new connection; both may be beside a sample
	// of the agent's own.
	if most := agents * (seconds + 6*rounds); samples > most {
		t.Errorf("%d samples in %d s: more often than the server polls", samples, seconds)
	}
}

// nothingWaits returns an error unless every agent is connected, and nothing waits in its spool or
// was dropped from it.
func nothingWaits(s *pulseproc.Server, agents []*countedAgent) error {
	var relays []struct {
		ID        string
		Connected bool
		Spool     *struct {
			Waiting uint64 `json:"waiting_records"`
			Dropped uint64 `json:"dropped_readings"`
		}
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
