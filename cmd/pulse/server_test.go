package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/mist/misttest"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// startServer starts a server process on a data dir and stops it when the test ends.
func startServer(t *testing.T, dataDir string, args ...string) *pulseproc.Server {
	t.Helper()
	s := newServer(t, dataDir, args...)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func newServer(t *testing.T, dataDir string, args ...string) *pulseproc.Server {
	t.Helper()
	return serverOf(t, pulseproc.Options{DataDir: dataDir, Args: args})
}

// serverOf makes a server process of this test binary, and stops it when the test ends.
func serverOf(t *testing.T, o pulseproc.Options) *pulseproc.Server {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Binary, o.Env = binary, append(o.Env, runAsPulse+"=1")
	s, err := pulseproc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's log ends with:\n%s", s.Log())
		}
	})
	return s
}

// await fails the test if done does not return nil within the limit.
func await(t *testing.T, s *pulseproc.Server, what string, limit time.Duration, done func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var last error
	if err := s.Await(ctx, func() (bool, error) { last = done(); return last == nil, nil }); err != nil {
		t.Fatalf("%s: %v; the last try said: %v", what, err, last)
	}
}

type stat struct {
	Time  int64
	Value float64
}

// TestTheWholePath follows a host's readings from its relay to every answer of the API, with each
// InfluxDB that Pulse supports.
func TestTheWholePath(t *testing.T) {
	for name, address := range map[string]func(*testing.T) string{
		"embedded":     func(*testing.T) string { return "embedded" },
		"influxdb 1.8": func(t *testing.T) string { return testtools.StartInfluxd(t, testtools.InfluxDB18).Addr },
		"influxdb 1.6": func(t *testing.T) string { return testtools.StartInfluxd(t, testtools.InfluxDB16).Addr },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			influxAddress := address(t)
			dir := t.TempDir()
			s := startServer(t, dir, "--influx-address", influxAddress, "--host-stats", "-p", "1")
			var latest stat
			await(t, s, "/latest/cpu_used", 60*time.Second, func() error { return s.Get("/latest/cpu_used", &latest) })
			if age := time.Now().Unix() - latest.Time; age < 0 || age > 60 {
				t.Errorf("the newest reading is %d seconds old", age)
			}

			other := exec.Command(os.Args[0], "relay", "--server", s.RelayAddr, "--id", "other", "--tags", "service:web1")
			other.Env = append(os.Environ(), runAsPulse+"=1")
			other.Stderr = os.Stderr
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = other.Process.Signal(os.Interrupt)
				if err := other.Wait(); err != nil {
					t.Errorf("pulse relay ended with %v", err)
				}
			}()
			await(t, s, "the second relay in /relays", time.Minute, func() error {
				var relays []struct {
					ID        string
					Connected bool
				}
				if err := s.Get("/relays", &relays); err != nil {
					return err
				}
				for _, r := range relays {
					if r.ID == "other" && r.Connected {
						return nil
					}
				}
				return fmt.Errorf("it lists %v", relays)
			})
			for _, filter := range []string{"host=other", "service=web1"} {
				await(t, s, "/latest/cpu_used?"+filter, time.Minute, func() error { return s.Get("/latest/cpu_used?"+filter, &latest) })
			}

			await(t, s, "/hourly/cpu_used", 90*time.Second, func() error {
				var hours []stat
				if err := s.Get("/hourly/cpu_used?host=other", &hours); err != nil {
					return err
				}
				if len(hours) == 0 || hours[0].Time%3600 != 0 {
					return fmt.Errorf("it answers %v", hours)
				}
				return nil
			})
			var daily map[string]float64
			if err := s.Get("/daily/cpu_used", &daily); err != nil || len(daily) == 0 {
				t.Errorf("/daily/cpu_used: %v %v", daily, err)
			}
			var keys, tags []string
			if err := s.Get("/keys", &keys); err != nil || !containsAll(keys, "cpu_used", "ram_used") {
				t.Errorf("/keys: %v %v", keys, err)
			}
			if err := s.Get("/tags", &tags); err != nil || !containsAll(tags, "host", "service") {
				t.Errorf("/tags: %v %v", tags, err)
			}
			if err := s.Stop(); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
			if influxAddress != "embedded" {
				checkAggregateRows(t, influxAddress)
			}
		})
	}
}

// checkAggregateRows queries InfluxDB itself for the rows that a person would see with its command
// line.
func checkAggregateRows(t *testing.T, address string) {
	t.Helper()
	store, err := influx.OpenExternal(influx.ExternalOptions{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows, err := store.Query(t.Context(), `SELECT * FROM "one_week"."aggregate"`, nil)
	if err != nil || len(rows) == 0 || len(rows[0].Values) == 0 {
		t.Fatalf("no aggregates: %v %v", rows, err)
	}
	if !containsAll(rows[0].Columns, "cpu_used", "cpu_used:count", "cpu_used:sum", "cpu_used:min", "cpu_used:max", "cpu_used:last", "host", "service") {
		t.Errorf("columns of the aggregates: %v", rows[0].Columns)
	}
}

func containsAll(list []string, wanted ...string) bool {
	all := "\x00" + strings.Join(list, "\x00") + "\x00"
	for _, w := range wanted {
		if !strings.Contains(all, "\x00"+w+"\x00") {
			return false
		}
	}
	return true
}

// TestNothingIsLostUnderLoad polls 500 relays of 10 stats every five seconds. InfluxDB must have
// every reading that was sent, once.
func TestNothingIsLostUnderLoad(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "5", "-l", "WARN")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 500, Stats: 10})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "four polls of each relay", time.Minute, func() error {
		if n := fleet.Polls(); n < 2000 {
			return fmt.Errorf("%d polls so far", n)
		}
		return nil
	})
	fleet.Stop()
	await(t, s, "all readings in the aggregates", 90*time.Second, func() error {
		var stored uint64
		for i := range 10 {
			n, err := s.Count(relaytest.FleetStat(i))
			if err != nil {
				return err
			}
			stored += n
		}
		if stored != fleet.Sent() {
			return fmt.Errorf("%d of %d", stored, fleet.Sent())
		}
		return nil
	})
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// If another process uses a port or the data dir, the error names the flag.
func TestBusy(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded")
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"http port", []string{"-H", s.HTTPAddr, "-S", "127.0.0.1:0", "--data-dir", t.TempDir()}, "--http-listen-address: "},
		{"relay port", []string{"-H", "127.0.0.1:0", "-S", s.RelayAddr, "--data-dir", t.TempDir()}, "--server-listen-address: "},
		{"nats port", []string{"-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", s.RelayAddr, "--data-dir", t.TempDir()}, "--nats-listen-address: "},
		{"data dir", []string{"-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--data-dir", dir}, "--data-dir: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"-s", "--nats-listen-address", "", "--influx-address", "embedded"}, test.args...), &stdout, &stderr)
			if code != command.ExitFailure || !strings.Contains(stderr.String(), "pulse: "+test.want) {
				t.Errorf("exit code %d, stderr %q; want %d and %q", code, stderr.String(), command.ExitFailure, test.want)
			}
		})
	}
}

// Two servers in one process share nothing, and a stop leaves nothing running; goleak checks the
// latter.
func TestTwoServersInOneProcess(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			config, err := ParseConfig([]string{"-s", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", "127.0.0.1:0", "--influx-address", "embedded",
				"--host-stats", "--data-dir", filepath.Join(t.TempDir(), "data")})
			if err != nil {
				t.Fatal(err)
			}
			app, err := NewApp(t.Context(), config, command.NewLogger(t.Output(), config.LogLevel))
			if err != nil {
				t.Fatal(err)
			}
			if err := app.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", app.ingest.Addr().String())
			if err != nil {
				t.Error(err)
			} else {
				defer conn.Close()
			}
			if err := app.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if err := app.Stop(t.Context()); err != nil {
				t.Errorf("the second Stop: %v", err)
			}
		})
	}
}

// A missing InfluxDB is not an error. Events that are journaled meanwhile are written when InfluxDB
// comes.
func TestInfluxComesLater(t *testing.T) {
	t.Parallel() // it waits most of the time
	db := testtools.StartInfluxd(t, testtools.InfluxDB18)
	db.Stop()
	s := startServer(t, t.TempDir(), "--influx-address", db.Addr, "-p", "1")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 5, Stats: 2})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "polls without InfluxDB", time.Minute, func() error {
		if n := fleet.Polls(); n < 20 {
			return fmt.Errorf("%d polls so far", n)
		}
		return nil
	})
	var latest stat
	await(t, s, "the live view without InfluxDB", time.Minute, func() error { return s.Get("/latest/stat_0", &latest) })
	fleet.Stop()
	if err := s.Get("/hourly/stat_0", &latest); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("/hourly without InfluxDB: %v, want a 503", err)
	}
	db.Restart()
	await(t, s, "the outage to be filled in", 90*time.Second, func() error {
		n, err := s.Count(url.PathEscape("stat_0"))
		if err == nil && 2*n != fleet.Sent() {
			err = fmt.Errorf("%d of %d", 2*n, fleet.Sent())
		}
		return err
	})
}

// Readings reach a mist in the form of 0.2. If the mist is away, /status says so, and nothing is
// delayed.
func TestMist(t *testing.T) {
	m := misttest.Listen(t, "mist token")
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "1", "--mist-address", m.Addr(), "--mist-token", "mist token")
	m.WaitAccepted(1)
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 1, Stats: 1, Tags: func(int, int) []string { return []string{"service:web1"} }})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "host:" + relaytest.FleetID(0) + " metrics service:web1 stat_0 1"
	first := m.WaitPublished(1)[0]
	if got := strings.Join(append(slices.Clone(first.Tags), first.Data), " "); got != want {
		t.Errorf("published %q, want %q", got, want)
	}
	m.Close()
	await(t, s, "/status without mist", time.Minute, func() error {
		var status struct {
			State       string
			Projections []struct{ Name, State string }
		}
		if err := s.Get("/status", &status); err != nil {
			return err
		}
		for _, p := range status.Projections {
			if p.Name == "mist" && p.State == "not connected" && status.State == "degraded" {
				return nil
			}
		}
		return fmt.Errorf("it says %+v", status)
	})
	var latest stat
	await(t, s, "/latest without mist", time.Minute, func() error { return s.Get("/latest/stat_0", &latest) })
}

// If InfluxDB loses everything, while Pulse runs or while it does not, it is filled again from the
// journal.
func TestWipedInfluxIsFilledAgain(t *testing.T) {
	t.Run("external, while running", func(t *testing.T) {
		t.Parallel()
		db := testtools.StartInfluxd(t, testtools.InfluxDB18)
		testWiped(t, db.Addr, func(*pulseproc.Server, string) {
			store, err := influx.OpenExternal(influx.ExternalOptions{Address: db.Addr})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if _, err := store.Query(t.Context(), `DROP DATABASE "statistics"`, nil); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("embedded, while stopped", func(t *testing.T) {
		t.Parallel()
		testWiped(t, "embedded", func(s *pulseproc.Server, dir string) {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "influx")); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func testWiped(t *testing.T, influxAddress string, wipe func(s *pulseproc.Server, dir string)) {
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", influxAddress, "-p", "1")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 20, Stats: 1, Reconnect: true})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	polls := func(n uint64) {
		n += fleet.Polls()
		await(t, s, "polls", time.Minute, func() error {
			if have := fleet.Polls(); have < n {
				return fmt.Errorf("%d of %d", have, n)
			}
			return nil
		})
	}
	polls(60)
	await(t, s, "the first readings in InfluxDB", time.Minute, func() error { _, err := s.Count("stat_0"); return err })
	wipe(s, dir)
	polls(60)
	fleet.Finish()
	readings, err := s.Metric("pulse_ingest_readings_total")
	if err != nil || readings == 0 {
		t.Fatalf("%v readings since the start (%v)", readings, err)
	}
	await(t, s, "all readings in InfluxDB again", 2*time.Minute, func() error {
		n, err := s.Count("stat_0")
		if err == nil && n != fleet.Sent() {
			err = fmt.Errorf("%d of %d", n, fleet.Sent())
		}
		return err
	})
}

// A relay with very many stats does not delay the history of the others.
func TestWideRelayDelaysNobody(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "1")
	wide := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 1, Stats: 1000, ID: func(int) string { return "wide" }})
	honest := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 1, Stats: 1, ID: func(int) string { return "honest" }})
	for _, fleet := range []*relaytest.Fleet{wide, honest} {
		defer fleet.Stop()
		if err := fleet.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var hours []stat
	await(t, s, "the honest relay's history", 90*time.Second, func() error { return s.Get("/hourly/stat_0?host=honest", &hours) })
	// The stop has a time limit. A slow machine may not write the wide relay's rows within it, and
	// then the next start writes the rest.
	began := time.Now()
	if err := s.Stop(); err != nil {
		t.Log(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the stop took %v", took)
	}
}
