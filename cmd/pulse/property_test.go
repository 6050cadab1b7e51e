package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
)

// The environment variable PULSE_SEED repeats one run of TestAnythingGoes. Without it,
// PULSE_PROPERTY_ROUNDS is the number of runs; propertyRounds is the default.
const propertyRounds = 5

// TestAnythingGoes does everything to a server that can happen, in random order: load, outages of
// InfluxDB, loss of its data, restarts, kill -9, replays, clock steps both ways. In the end the
// journal holds every event that the server has confirmed, once. InfluxDB equals a recount of the
// journal, field for field, and so do random answers of /range.
func TestAnythingGoes(t *testing.T) {
	const atOnce = 4 // a run waits most of the time
	seeds := make([]uint64, propertyRounds)
	if n, err := strconv.Atoi(os.Getenv("PULSE_PROPERTY_ROUNDS")); err == nil {
		seeds = make([]uint64, n)
	}
	for i := range seeds {
		seeds[i] = rand.Uint64() >> 16
	}
	if seed, err := strconv.ParseUint(os.Getenv("PULSE_SEED"), 10, 64); err == nil {
		seeds = []uint64{seed}
	}
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, seed := range seeds {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			t.Run(fmt.Sprintf("PULSE_SEED=%d", seed), func(t *testing.T) { runAnything(t, seed) })
		})
	}
	all.Wait()
}

// An anything is one run: a server, its InfluxDB, its relays and its clock.
type anything struct {
	t      *testing.T
	random *rand.Rand
	dir    string
	clock  *wrongClock
	server *pulseproc.Server
	relays *pushers
	db     *testtools.Server // nil with the embedded engine
	proxy  *testtools.Proxy
	heal   func() // ends the outage; nil while there is none
	// wiped means that InfluxDB lost its data and the server was not started since. A projection
	// may notice the loss only when it writes during the stop, and then leaves the rest to the next
	// start.
	wiped bool
	began time.Time
}

func runAnything(t *testing.T, seed uint64) {
	a := &anything{t: t, random: rand.New(rand.NewPCG(seed, 0)), dir: filepath.Join(t.TempDir(), "data"), clock: newClock(t), began: time.Now()}
	address := "embedded"
	if a.random.IntN(3) > 0 {
		a.db = testtools.StartInfluxd(t, testtools.InfluxDB18)
		a.proxy = testtools.StartProxy(t, a.db.Addr)
		address = a.proxy.Addr
	}
	a.log("with %s", address)
	a.clock.step(t, a.anyOffset())
	a.server = a.clock.newServer(t, a.dir, "--influx-address", address, "-p", "3600", "-a", "1")
	a.start()
	a.relays = newPushers(a.server.RelayAddr, 1+a.random.IntN(20), 1+a.random.IntN(5), a.random)
	defer a.relays.stop()
	a.load()
	for range 4 + a.random.IntN(6) {
		a.one()
		if a.random.IntN(3) > 0 {
			a.load()
		}
	}
	if a.heal != nil {
		a.endOutage()
	}
	a.load() // a projection must write to notice that InfluxDB lost its data
	a.relays.stop()
	if a.wiped {
		a.restart()
	}
	awaitProjected(t, a.server)
	awaitReplays(t, a.server)
	a.clock.step(t, maxOffset-a.clock.offset) // after all readings
	a.clock.awaitRead(t, a.server)
	asked := askRanges(t, a.server, a.random, a.clock.now(), 30)
	if err := a.server.Stop(); err != nil {
		t.Error(err)
	}
	compareRanges(t, asked, a.compare())
}

// compare compares the journal with the events that were sent, and InfluxDB with the journal, and
// returns the recount of the journal. The server is stopped meanwhile.
func (a *anything) compare() *count {
	a.t.Helper()
	want := recount(a.t, a.dir)
	a.log("%d events in the journal", want.events)
	a.relays.check(a.t, want)
	if a.db != nil {
		compareWithExternal(a.t, a.db.Addr, want)
	} else {
		compareWithInflux(a.t, a.dir, want)
	}
	return want
}

func (a *anything) log(format string, args ...any) {
	a.t.Logf("%6.2fs %s", time.Since(a.began).Seconds(), fmt.Sprintf(format, args...))
}

// one runs one random event of those that can happen.
func (a *anything) one() {
	deeds := []func(){a.step, a.step, a.step, a.kill, a.kill, a.restart, a.wipe, a.replay, a.replay}
	if a.db != nil {
		deeds = append(deeds, a.outage, a.outage, a.outage)
	}
	deeds[a.random.IntN(len(deeds))]()
}

func (a *anything) start() {
	a.t.Helper()
	if err := a.server.Start(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.wiped = false
}

// load has every relay send a few events, or very many.
func (a *anything) load() {
	a.t.Helper()
	n := 1 + a.random.IntN(30)
	if a.random.IntN(15) == 0 {
		n = 6000 / len(a.relays.relays) // more than a projection is ever behind without an outage
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Minute)
	defer cancel()
	if err := a.relays.push(ctx, n); err != nil {
		// The connections end with the server, and a relay notices that only when it writes.
		if err = a.relays.push(ctx, n); err != nil {
			a.t.Fatalf("load: %v", err)
		}
	}
	a.log("load: %d events of each of %d relays", n, len(a.relays.relays))
}

// maxOffset keeps all readings younger than the retention of raw points.
const maxOffset = 3 * time.Hour

func (a *anything) anyOffset() time.Duration {
	return time.Duration(a.random.Int64N(int64(2*maxOffset))) - maxOffset
}

// step sets the clock: by some seconds, to one of the next windows, or to any time.
func (a *anything) step() {
	to := a.clock.offset
	switch a.random.IntN(3) {
	case 0:
		to += time.Duration(a.random.Int64N(int64(40*time.Second))) - 20*time.Second
	case 1:
		to += time.Duration(a.random.Int64N(int64(6*time.Minute))) - 2*time.Minute
	default:
		to = a.anyOffset()
	}
	to = min(max(to, -maxOffset), maxOffset)
	a.log("the clock goes by %v to %v", (to - a.clock.offset).Round(time.Millisecond), to.Round(time.Millisecond))
	a.clock.step(a.t, to-a.clock.offset)
	a.clock.awaitRead(a.t, a.server)
}

// kill ends the server with SIGKILL, with load or without. It may kill the next server too, while
// that one starts.
func (a *anything) kill() {
	ctx, cancel := context.WithCancel(a.t.Context())
	pushed := make(chan error, 1)
	underLoad := a.random.IntN(2) == 0
	if underLoad {
		go func() { pushed <- a.relays.push(ctx, 10_000) }()
		<-time.After(time.Duration(a.random.Int64N(int64(500 * time.Millisecond))))
	}
	a.server.Kill()
	cancel()
	if underLoad {
		<-pushed // the kill cut it off
	}
	a.log("kill -9 (under load: %t)", underLoad)
	for a.random.IntN(3) == 0 {
		if err := a.server.Launch(); err != nil {
			a.t.Fatal(err)
		}
		<-time.After(time.Duration(a.random.Int64N(int64(time.Second))))
		a.server.Kill()
		a.log("kill -9 during the start")
	}
	a.start()
}

// restart stops the server with SIGTERM and starts it again.
func (a *anything) restart() {
	if a.stop() && a.heal == nil && !a.wiped {
		a.compare()
	}
	a.start()
}

// little is a number of records that any machine can project during a stop.
const little = 2000

// stop reports whether the server ended with code 0, which means that everything is projected. The
// code must be 0 if the server had little to do. Otherwise the server's last line must say what the
// next start does, because a stop continues a projection only for some seconds, and a backlog for
// less.
func (a *anything) stop() bool {
	a.t.Helper()
	waiting, err := unprojected(a.server)
	must := err == nil && waiting <= little && a.heal == nil && !a.wiped
	err = a.server.Stop()
	a.log("a clean stop (%t), %d records had to be projected", err == nil, waiting)
	switch {
	case err == nil:
		return true
	case must:
		a.t.Errorf("a stop with little to do: %v", err)
	case !leavesWork(a.server, err):
		a.t.Errorf("the stop does not say what is left: %v", err)
	}
	return false
}

// unprojected returns how many records a projection has not applied yet. It returns an error if a
// projection fails or has a backlog, because then the number is not known.
func unprojected(s *pulseproc.Server) (n uint64, err error) {
	var status serverStatus
	if err := s.Get("/status", &status); err != nil {
		return 0, err
	}
	for _, p := range status.Projections {
		if p.Applied < status.Journal.LastSequence {
			n = max(n, status.Journal.LastSequence-p.Applied)
		}
		if p.Failing || p.Backlog > 0 {
			err = fmt.Errorf("/status says %+v", p)
		}
	}
	return n, err
}

// wipe makes InfluxDB lose its data.
func (a *anything) wipe() {
	defer func() { a.wiped = true }()
	if a.db == nil {
		if a.random.IntN(2) == 0 {
			a.server.Kill()
		} else {
			a.stop()
		}
		if err := os.RemoveAll(filepath.Join(a.dir, "influx")); err != nil {
			a.t.Fatal(err)
		}
		a.log("wiped")
		a.start()
		return
	}
	if a.heal != nil {
		a.endOutage()
	}
	statements := []string{`DROP DATABASE "statistics"`, `DROP RETENTION POLICY "one_day" ON "statistics"`, `DROP RETENTION POLICY "one_week" ON "statistics"`}
	statement := statements[a.random.IntN(len(statements))]
	store := openExternal(a.t, a.db.Addr)
	defer store.Close()
	_, err := store.Query(a.t.Context(), statement, nil)
	a.log("%s: %v", statement, err) // it may be dropped already
}

// replay replays a random time from the journal, which must change nothing.
func (a *anything) replay() {
	from := a.clock.now().Add(-time.Duration(a.random.Int64N(int64(2 * maxOffset))))
	r := askedReplay{Projection: []string{"raw", "aggregates", "all"}[a.random.IntN(3)], From: from.UTC().Format(time.RFC3339), DryRun: a.random.IntN(4) == 0}
	if a.random.IntN(2) == 0 {
		r.To = from.Add(time.Second + time.Duration(a.random.Int64N(int64(maxOffset)))).UTC().Format(time.RFC3339)
	}
	a.log("replay of %+v", r)
	if err := postReplay(a.server, r); err != nil {
		a.t.Error(err)
	}
}

// outage begins an outage, or ends the present one.
func (a *anything) outage() {
	if a.heal != nil {
		a.endOutage()
		return
	}
	faults := testtools.Faults()
	switch n := a.random.IntN(len(faults) + 2); {
	case n < len(faults):
		a.log("outage: %s", faults[n])
		a.proxy.Set(faults[n])
		a.heal = func() { a.proxy.Set(testtools.Healthy) }
	case n == len(faults):
		a.log("outage: InfluxDB killed")
		a.db.Kill()
		a.heal = a.db.Restart
	default:
		a.log("outage: InfluxDB stopped")
		a.db.Stop()
		a.heal = a.db.Restart
	}
}

func (a *anything) endOutage() {
	a.heal()
	a.heal = nil
	a.log("the end of the outage")
}
