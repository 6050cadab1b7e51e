package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

const (
	restartRelays = 10_000
	restartEvents = 5_000_000
	// The longest time from the start of a server until it polls a relay.
	restartClean, restartKilled = 3 * time.Second, 10 * time.Second
)

// runRestart measures how soon a server with a long journal and many registrations polls again
// after its start. The first start is after a kill -9 of the process that wrote the journal, which
// leaves no index for JetStream. The second start is after a clean stop.
func (b *bench) runRestart(ctx context.Context) error {
	s, err := b.server("restart", time.Second)
	if err != nil {
		return err
	}
	if err := b.registerAll(ctx, s); err != nil {
		return err
	}
	f := &fill{dir: filepath.Join(b.dir, "restart"), events: restartEvents / 10, relays: restartRelays, stats: 10, end: time.Now().UnixNano(), span: 24 * time.Hour}
	if b.long {
		f.events = restartEvents
	}
	if err := f.killed(ctx); err != nil {
		return err
	}
	defer s.Kill()
	for _, c := range []struct {
		after string
		limit time.Duration
	}{{"kill -9", restartKilled}, {"a clean stop", restartClean}} {
		began := time.Now()
		if err := s.Launch(); err != nil {
			return err
		}
		if err := s.Await(ctx, func() (bool, error) { return polled(s.RelayAddr, relaytest.FleetID(0)) == nil, nil }); err != nil {
			return err
		}
		took := time.Since(began)
		_, peak, err := s.RSS()
		if err != nil {
			return err
		}
		b.add(fmt.Sprintf("restart: start to first poll after %s, %d events, %d relays known", c.after, f.events, restartRelays), took < c.limit,
			fmt.Sprintf("%.0f s", c.limit.Seconds()), "%.2f s (peak %d MiB)", took.Seconds(), peak>>20)
		if err := s.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// registerAll starts a server, registers the relays and stops the server.
func (b *bench) registerAll(ctx context.Context, s *pulseproc.Server) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Kill()
	conns, err := connectAll(ctx, s.RelayAddr, restartRelays, codec.Collector{Name: relaytest.FleetCollector(0)})
	defer closeAll(conns)
	if err != nil {
		return err
	}
	return s.Stop()
}

// polled connects a relay that the server knows. It returns nil when the relay has been polled.
func polled(address, id string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	lines := bufio.NewReader(conn)
	if err := ask(conn, lines, relaywire.AppendID(nil, id, "")); err != nil {
		return err
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "get ") {
			return err
		}
	}
}

// historyCommand is the first argument of the process that f.killed kills.
const historyCommand = "history"

// killed starts a process that appends the events, and kills it.
func (f *fill) killed(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, self, f.args(historyCommand)...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	killed := command.Process.Kill()
	_ = command.Wait() // killed above
	if err != nil || line != historyDone {
		return fmt.Errorf("filling the journal ended with %q: %w", line, errors.Join(err, killed))
	}
	return killed
}

const historyDone = "done\n"

// runHistory appends the events as a server whose projections have kept up would, and waits until
// it is killed.
func (f *fill) runHistory(ctx context.Context) error {
	state, err := migrations.Open(f.dir, migrations.Options{})
	if err != nil {
		return err
	}
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Join(f.dir, "journal"), Marker: journal.BoltMarker(state.DB), MaxBytes: 10e9})
	if err != nil {
		return err
	}
	if err := f.append(ctx, j, 0, f.events); err != nil {
		return err
	}
	end, err := j.State(ctx)
	if err != nil {
		return err
	}
	positions := projector.NewPositions(state.DB)
	for _, name := range []string{"influx_raw", "influx_aggregates", "alerts"} {
		if err := positions.Save(name, end.LastSeq); err != nil {
			return err
		}
	}
	// After a start the views in memory begin two polls back. Here that time would hold far more
	// events than on a real server, so runHistory waits for longer than two polls.
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	fmt.Print(historyDone)
	<-ctx.Done()
	return ctx.Err()
}
