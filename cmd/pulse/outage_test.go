package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// An outage is a way in which InfluxDB can fail. begin and end run on the test's goroutine. After
// end InfluxDB works again.
type outage struct {
	name       string
	begin, end func(*ill)
	// shows is what /status must show during the outage.
	shows shown
	// disk is the size of the file system for InfluxDB's data, in MiB; 0 means no own file system.
	disk int
}

type shown int

const (
	nothing shown = iota // healed by the next write
	lagging              // neither written nor refused yet
	failing              // both projections into InfluxDB fail
)

// ill is an InfluxDB with the means to make it fail.
type ill struct {
	t     *testing.T
	db    *testtools.Server
	proxy *testtools.Proxy
	disk  string
	free  func()
}

func (i *ill) exec(statement string) {
	i.t.Helper()
	store := openExternal(i.t, i.db.Addr)
	defer store.Close()
	if _, err := store.Query(i.t.Context(), statement, nil); err != nil {
		i.t.Fatalf("%s: %v", statement, err)
	}
}

func openExternal(t *testing.T, address string) influx.Store {
	t.Helper()
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func fault(f testtools.Fault, shows shown) outage {
	return outage{name: string(f), shows: shows,
		begin: func(i *ill) { i.proxy.Set(f) },
		end:   func(i *ill) { i.proxy.Set(testtools.Healthy) }}
}

func drop(statement string) outage {
	return outage{name: statement, begin: func(i *ill) { i.exec(statement) }, end: func(*ill) {}}
}

func outages() []outage {
	return []outage{
		fault(testtools.Refuse, failing),
		fault(testtools.Hang, lagging),
		fault(testtools.Status500, failing),
		fault(testtools.Status503, failing),
		fault(testtools.Garbage, failing),
		fault(testtools.Portal, failing),
		fault(testtools.Cut, failing),
		fault(testtools.Slow, nothing),
		drop(`DROP DATABASE "statistics"`),
		drop(`DROP RETENTION POLICY "one_day" ON "statistics"`),
		drop(`DROP RETENTION POLICY "one_week" ON "statistics"`),
		{name: "killed", shows: failing, begin: func(i *ill) { i.db.Kill() }, end: func(i *ill) { i.db.Restart() }},
		{name: "stopped by SIGSTOP", shows: lagging, begin: func(i *ill) { i.db.Pause() }, end: func(i *ill) { i.db.Resume() }},
		// After a full disk InfluxDB 1.8 writes nothing more to its WAL until it is started again.
		{name: "disk full", disk: 32, shows: failing, begin: func(i *ill) { i.free = testtools.FillDisk(i.t, i.disk) },
			end: func(i *ill) { i.free(); i.db.Restart() }},
	}
}

// TestOutages makes InfluxDB fail in every way while relays are polled. Polls and /latest continue,
// and /status says what is wrong. After that, raw points and aggregates are those of the journal,
// field for field.
func TestOutages(t *testing.T) {
	const atOnce = 4 // most of the time each of them waits
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, o := range outages() {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			t.Run(o.name, func(t *testing.T) { testOutage(t, o) })
		})
	}
	all.Wait()
}

func testOutage(t *testing.T, o outage) {
	const relays, stats = 50, 10
	i := &ill{t: t}
	var settings []testtools.Setting
	if o.disk > 0 {
		i.disk = testtools.SmallDisk(t, o.disk)
		settings = []testtools.Setting{
			{Section: "data", Line: fmt.Sprintf("dir = %q", i.disk+"/data")}, {Section: "data", Line: fmt.Sprintf("wal-dir = %q", i.disk+"/wal")}}
	}
	i.db = testtools.StartInfluxd(t, testtools.InfluxDB18, settings...)
	i.proxy = testtools.StartProxy(t, i.db.Addr)
	clock := newClock(t)
	dir := filepath.Join(t.TempDir(), "data")
	s := clock.newServer(t, dir, "--influx-address", i.proxy.Addr, "-p", "1", "-a", "1")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays, Stats: stats})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 2*relays)
	clock.step(t, afterWindow)
	await(t, s, "the first window in InfluxDB", time.Minute, func() error { _, err := s.Count("stat_0"); return err })

	o.begin(i)
	// The clock moves past the end of the open window, so that its rows are due during the outage.
	clock.step(t, afterWindow)
	awaitPolls(t, s, fleet, 2*relays)
	stepped := time.Now()
	await(t, s, "/status during the outage", 2*time.Minute, func() error {
		err := errors.Join(latestIsNew(s, clock), statusShows(s, o.shows))
		if err != nil && time.Since(stepped) > 5*time.Second {
			// A full disk takes rows while the last page of a file has room. The next window has
			// more rows.
			clock.step(t, afterWindow)
			awaitPolls(t, s, fleet, 2*relays)
			stepped = time.Now()
		}
		return err
	})
	awaitPolls(t, s, fleet, relays)
	await(t, s, "the newest reading during the outage", time.Minute, func() error { return latestIsNew(s, clock) })
	o.end(i)

	began := time.Now()
	awaitPolls(t, s, fleet, relays)
	fleet.Finish()
	awaitProjected(t, s)
	t.Logf("all is written %v after the outage", time.Since(began).Round(time.Millisecond))
	var ready struct{ Status string }
	if err := s.Get("/readyz", &ready); err != nil || ready.Status != "ready" {
		t.Errorf("/readyz afterwards: %q, %v", ready.Status, err)
	}
	if late, err := latePolls(s); err != nil || late > float64(fleet.Polls())/2 {
		// Some are late because this machine runs other servers too.
		t.Errorf("%v polls were not answered in time, %d answered (%v)", late, fleet.Polls(), err)
	}
	if n := fleet.Disconnects(); n != 0 {
		t.Errorf("%d relays lost their connection: %v", n, fleet.Err())
	}
	stopProjected(t, s)
	want := recount(t, dir)
	if uint64(want.events) != fleet.Polls() {
		t.Errorf("the journal holds %d events of %d answered polls", want.events, fleet.Polls())
	}
	compareWithExternal(t, i.db.Addr, want)
}

// afterWindow is a step of the clock to after the end of the open window of a minute and after its
// grace.
const afterWindow = window + 15*time.Second

// A serverStatus holds the parts of /status that the tests read.
type serverStatus struct {
	State   string
	Journal struct {
		FirstSequence uint64 `json:"first_sequence"`
		LastSequence  uint64 `json:"last_sequence"`
	}
	Projections []projectionStatus
	Influx      struct{ Reachable bool }
}

type projectionStatus struct {
	Name, State   string
	Failing       bool
	Applied, Lag  uint64
	LagSeconds    float64 `json:"lag_seconds"`
	LastError     string  `json:"last_error"`
	Backlog       uint64
	SecondsToLoss *float64 `json:"seconds_to_loss"`
}

// intoInflux returns the projections that write to InfluxDB.
func (s *serverStatus) intoInflux() []projectionStatus {
	var list []projectionStatus
	for _, p := range s.Projections {
		if p.Name == "influx_raw" || p.Name == "influx_aggregates" {
			list = append(list, p)
		}
	}
	return list
}

// statusShows returns nil if /status and /readyz show the outage as they must.
func statusShows(s *pulseproc.Server, what shown) error {
	var status serverStatus
	if err := s.Get("/status", &status); err != nil {
		return err
	}
	into := status.intoInflux()
	if len(into) != 2 {
		return fmt.Errorf("/status lists %+v", status.Projections)
	}
	switch what {
	case lagging:
		if status.Influx.Reachable || into[0].Lag == 0 {
			return fmt.Errorf("/status says %+v", status)
		}
	case failing:
		for _, p := range into {
			if !p.Failing || p.State != "failing" || p.Lag == 0 || p.LastError == "" {
				return fmt.Errorf("/status says %+v", p)
			}
		}
		var ready struct{ Status string }
		if err := s.Get("/readyz", &ready); err != nil || ready.Status != "degraded" || status.State != "degraded" {
			return fmt.Errorf("/readyz says %q, /status %q: %v", ready.Status, status.State, err)
		}
	}
	return nil
}

// latestIsNew returns nil if the newest reading is from the last poll or the one before.
func latestIsNew(s *pulseproc.Server, clock *wrongClock) error {
	var newest stat
	if err := s.Get("/latest/stat_0", &newest); err != nil {
		return err
	}
	if age := clock.now().Sub(time.Unix(newest.Time, 0)); age > 4*time.Second {
		return fmt.Errorf("the newest reading in /latest is %v old", age)
	}
	return nil
}

// awaitProjected waits until no projection fails or has records left.
func awaitProjected(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	await(t, s, "all projected", 3*time.Minute, func() error {
		var status serverStatus
		if err := s.Get("/status", &status); err != nil {
			return err
		}
		for _, p := range status.Projections {
			if p.Failing || p.Lag > 0 || p.Backlog > 0 || p.Applied < status.Journal.LastSequence {
				return fmt.Errorf("/status says %+v, the journal's end is %d", p, status.Journal.LastSequence)
			}
		}
		if len(status.Projections) == 0 {
			return errors.New("/status lists no projections")
		}
		return nil
	})
}
