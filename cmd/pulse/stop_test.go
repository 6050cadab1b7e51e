package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// A flood is a set of relays that push readings without being polled. Each relay sends its next got
// as soon as the server has taken the previous one, in the form of a Fleet's answers, until its
// connection ends.
type flood struct {
	wg   sync.WaitGroup
	errs chan error
}

func startFlood(t *testing.T, address string, relays int) *flood {
	t.Helper()
	f := &flood{errs: make(chan error, relays)}
	for i := range relays {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		f.wg.Go(func() {
			if err := flow(conn, i); err != nil {
				f.errs <- err
			}
		})
	}
	return f
}

// flow sends readings and returns nil when the server closes the connection.
func flow(conn net.Conn, relay int) error {
	if _, err := fmt.Fprintf(conn, "id %s\nadd c0\n", relaytest.FleetID(relay)); err != nil {
		return err
	}
	lines := relaywire.NewReader(conn)
	var line []byte
	for n := uint64(1); ; n++ {
		line = append(line[:0], "got "...)
		for stat := range 10 {
			line = fmt.Appendf(line, "c0-%s:%v,", relaytest.FleetStat(stat), relaytest.FleetValue(relay, stat, n))
		}
		line = append(line[:len(line)-1], "\nping\n"...) // a pong confirms the line before
		if _, err := conn.Write(line); err != nil {
			return nil
		}
		for {
			m, err := lines.Read()
			if err != nil {
				return nil
			}
			if m.Verb == relaywire.VerbError {
				return fmt.Errorf("the server said %q", m.Args)
			}
			if m.Verb == relaywire.VerbPong {
				break
			}
		}
	}
}

func (f *flood) wait(t *testing.T) {
	t.Helper()
	f.wg.Wait()
	close(f.errs)
	for err := range f.errs {
		t.Error(err)
	}
}

// TestStopUnderLoad stops the server while 200 relays send as fast as they can. The server ends,
// and everything that was appended is in InfluxDB.
func TestStopUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "-a", "1", "-l", "WARN")
	f := startFlood(t, s.RelayAddr, 200)
	awaitReadings(t, s, 20_000)
	began := time.Now()
	stopProjected(t, s)
	took := time.Since(began)
	f.wait(t)
	want := recount(t, dir)
	t.Logf("stopped in %v; %d events", took.Round(time.Millisecond), want.events)
	compareWithInflux(t, dir, want)
}

// TestStopWithoutInflux stops the server under load while InfluxDB is away. The server ends soon,
// with exit code 1 and one line that says what is left. The next start does the rest.
func TestStopWithoutInflux(t *testing.T) {
	db := testtools.StartInfluxd(t, testtools.InfluxDB18)
	db.Stop()
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", db.Addr, "-a", "1", "-l", "WARN")
	f := startFlood(t, s.RelayAddr, 200)
	awaitReadings(t, s, 20_000)
	began := time.Now()
	err := s.Stop()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != command.ExitFailure {
		t.Errorf("the stop ended with %v, want exit code %d", err, command.ExitFailure)
	}
	took := time.Since(began)
	f.wait(t)
	lines := slices.Collect(strings.Lines(s.Log()))
	last := lines[len(lines)-1]
	// The line names InfluxDB's error as the cause, not the time limit of the stop.
	for _, want := range []string{"pulse: stopping the projections: ", "influx_raw stopped at record ", "the rest follows after the next start", strings.TrimPrefix(db.Addr, "http://")} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line does not say %q: %s", want, last)
		}
	}
	t.Logf("stopped in %v: %s", took.Round(time.Millisecond), last)

	db.Restart()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "what was left being filled in", time.Minute, func() error { return allLive(s) })
	stopProjected(t, s)
	compareWithExternal(t, db.Addr, recount(t, dir))
}

// stopProjected stops the server after everything is projected. A busy machine may exceed the time
// limit of a stop. Then stopProjected starts the server again, which does the rest, and stops it
// again.
func stopProjected(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	for range 3 {
		err := s.Stop()
		if err == nil {
			return
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != command.ExitFailure {
			t.Fatal(err)
		}
		t.Logf("the stop was cut short: %v", err)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitProjected(t, s)
	}
	t.Fatal("three stops were cut short")
}

// leavesWork reports whether a stop that ended with err said that the next start continues.
func leavesWork(s *pulseproc.Server, err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	lines := slices.Collect(strings.Lines(s.Log()))
	return ok && exit.ExitCode() == command.ExitFailure && leftToNextStart.MatchString(lines[len(lines)-1])
}

var leftToNextStart = regexp.MustCompile(`^pulse: stopping the projections: .*(the rest follows after the next start|the next start goes on with them): `)

// awaitReadings waits until the journal has appended n readings since the start.
func awaitReadings(t *testing.T, s *pulseproc.Server, n float64) {
	t.Helper()
	await(t, s, "readings", time.Minute, func() error {
		have, err := s.Metric("pulse_journal_appended_readings_total")
		if err == nil && have < n {
			err = fmt.Errorf("%v of %v", have, n)
		}
		return err
	})
}
