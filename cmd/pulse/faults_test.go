package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// suspendSeconds is the environment variable that says for how long TestSuspend stops the server.
// The default is 3 s.
const suspendSeconds = "PULSE_SUSPEND_SECONDS"

// TestSuspend stops the process under load and continues it, which also simulates a machine that
// slept. Relays that gave up come back, and the others continue. The next readings are right and
// have the right time. Nothing that was journaled is lost or there twice. The process is stopped
// for less than a relay's patience, and for longer.
func TestSuspend(t *testing.T) {
	t.Parallel()
	long := time.Duration(fromEnvironment(t, suspendSeconds, 3)) * time.Second
	for name, test := range map[string]struct {
		beat string
		stay bool // no relay loses its connection
	}{
		"relays wait":    {strconv.Itoa(int(4 * long / time.Second)), true},
		"relays give up": {"1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSuspend(t, long, test.beat, test.stay)
		})
	}
}

func testSuspend(t *testing.T, long time.Duration, beat string, stay bool) {
	const relays = 100
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1", "-b", beat, "-l", "WARN")
	ours, err := relay.NewRelay(s.RelayAddr, "our relay library")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays, Reconnect: true})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 2*relays)
	// The value of stat_0 is the number of the relay's poll.
	latest := "/latest/stat_0?host=" + relaytest.FleetID(0)
	var before, after stat
	await(t, s, "a reading", time.Minute, func() error { return s.Get(latest, &before) })

	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(long) // the length of the pause is tested
	connects, resumed := ours.State().Connects, time.Now()
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	await(t, s, "the next reading", time.Minute, func() error {
		err := s.Get(latest, &after)
		if err == nil && after.Value <= before.Value {
			err = fmt.Errorf("it is still %v", after)
		}
		return err
	})
	if after.Time < resumed.Unix() || after.Time > time.Now().Unix() {
		t.Errorf("the next reading is dated %v, the server went on at %v", time.Unix(after.Time, 0), resumed)
	}
	await(t, s, "all relays", time.Minute, func() error {
		if n := fleet.Connected(); n != relays || !ours.State().Connected {
			return fmt.Errorf("%d of %d, ours: %v", n, relays, ours.State().Connected)
		}
		return nil
	})
	awaitPolls(t, s, fleet, 2*relays)
	lost := fleet.Disconnects()
	// The fleet's relays wait for ever, but those of the relay library do not.
	if stay && (lost > 0 || ours.State().Connects != connects) || !stay && ours.State().Connects == connects {
		t.Errorf("%d of %d relays lost their connection, ours was welcomed %d times, %d before: %v", lost, relays, ours.State().Connects, connects, fleet.Err())
	}
	if n, err := s.Metric("pulse_ingest_readings_lost_total"); err != nil || n != 0 {
		t.Errorf("%v readings were lost (%v)", n, err)
	}
	fleet.Stop()
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	stopProjected(t, s)
	want := recount(t, dir)
	// Readings that a relay sent while its connection broke may be lost.
	if got, sent := uint64(len(want.raw)), fleet.Sent(); got > sent || sent-got > 10*lost {
		t.Errorf("the journal holds %d readings of the %d that were sent; %d connections broke", got, sent, lost)
	}
	compareWithInflux(t, dir, want)
	t.Logf("stopped for %v: %d connections of %d broke, all was well %v after it", long, lost, relays, time.Since(resumed).Round(time.Millisecond))
}

// TestOutOfFiles makes far more connections than the server may have files. The connected relays
// are still polled, none of their readings is lost, and systemd's watchdog gets its pings. Further
// connections are refused, counted and logged. They are accepted when there is room again.
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	const relays, crowd = 40, 400
	systemd := listenNotify(t)
	dir := filepath.Join(t.TempDir(), "data")
	s := serverOf(t, pulseproc.Options{DataDir: dir,
		Env:  []string{"NOTIFY_SOCKET=" + systemd.path, "WATCHDOG_USEC=3000000"},
		Args: []string{"--influx-address", "embedded", "-p", "1", "-a", "1"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 2*relays)
	systemd.await("WATCHDOG=1") // its connection to the API exists
	limitFiles(t, s, 2*openFiles(t, s))

	conns := make([]net.Conn, crowd)
	for i := range conns {
		address := s.RelayAddr
		if i%2 == 0 {
			address = s.HTTPAddr
		}
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	for i, want := range []string{"HTTP/1.1 503 ", "error the server has too many open files\n"} {
		if said, err := lastWords(conns[crowd-2+i]); !strings.HasPrefix(said, want) {
			t.Errorf("one that is too many gets %q (%v), want %q", said, err, want)
		}
	}
	systemd.drain()
	awaitPolls(t, s, fleet, 3*relays)
	for range 2 {
		if ping := systemd.next(time.Minute); ping != "WATCHDOG=1" {
			t.Errorf("the watchdog got %q", ping)
		}
	}
	if n := fleet.Disconnects(); n != 0 {
		t.Errorf("%d relays lost their connection: %v", n, fleet.Err())
	}
	if !strings.Contains(s.Log(), "connection refused: the process has nearly all the files open that it may") {
		t.Error("the log says nothing")
	}
	for _, c := range conns {
		c.Close()
	}
	await(t, s, "the API answering again", time.Minute, func() error { return s.Get("/readyz", new(any)) })
	await(t, s, "relays being welcomed again", time.Minute, s.Welcomes)
	for _, listener := range []string{"http-listen-address", "server-listen-address"} {
		if n, err := s.Metric("pulse_connections_refused_total", listener); err != nil || n < crowd/4 {
			t.Errorf("%s: %v refused connections are counted (%v)", listener, n, err)
		}
	}
	fleet.Finish()
	await(t, s, "every projection", 3*time.Minute, func() error { return allLive(s) })
	stopProjected(t, s)
	want := recount(t, dir)
	if uint64(len(want.raw)) != fleet.Sent() {
		t.Errorf("%d readings were sent, the journal holds %d", fleet.Sent(), len(want.raw))
	}
	compareWithInflux(t, dir, want)
}

// lastWords returns the text that comes until the connection ends.
func lastWords(c net.Conn) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	said, err := io.ReadAll(c)
	return string(said), err
}

// openFiles returns how many files a server has open.
func openFiles(t *testing.T, s *pulseproc.Server) uint64 {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(len(entries))
}

// limitFiles sets how many files a running server may have open.
func limitFiles(t *testing.T, s *pulseproc.Server, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	err := unix.Prlimit(s.Pid(), unix.RLIMIT_NOFILE, nil, &limit)
	if err == nil {
		limit.Cur = n
		err = unix.Prlimit(s.Pid(), unix.RLIMIT_NOFILE, &limit, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLittleMemory runs a server under a GOMEMLIMIT that is less than it needs, so that Go collects
// garbage all the time. The server may be slower, but loses and refuses nothing.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	const relays, limit = 500, 16 << 20
	dir := t.TempDir()
	s := serverOf(t, pulseproc.Options{DataDir: dir, Env: []string{fmt.Sprint("GOMEMLIMIT=", limit)},
		Args: []string{"--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN"}})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 3*relays)
	fleet.Finish()
	await(t, s, "every projection", 3*time.Minute, func() error { return allLive(s) })
	now, peak, err := s.RSS()
	if err != nil {
		t.Error(err)
	}
	heap, err := s.Metric("go_memstats_heap_inuse_bytes")
	if err != nil {
		t.Error(err)
	}
	if heap < limit {
		t.Errorf("the heap is %.0f bytes: the limit of %d tells nothing", heap, limit)
	}
	if n := fleet.Disconnects(); n != 0 {
		t.Errorf("%d relays lost their connection: %v", n, fleet.Err())
	}
	stopProjected(t, s)
	want := recount(t, dir)
	if uint64(len(want.raw)) != fleet.Sent() {
		t.Errorf("%d readings were sent, the journal holds %d", fleet.Sent(), len(want.raw))
	}
	compareWithInflux(t, dir, want)
	t.Logf("%d readings of %d relays; %.0f MiB of heap, RSS %d MiB, %d at the peak", len(want.raw), relays, heap/(1<<20), now>>20, peak>>20)
}
