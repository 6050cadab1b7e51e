package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// fleetCommand is the first argument of the process that is the fleet. The second is a fleet as
// JSON.
const fleetCommand = "fleet"

// A kind is how the readings get to a server.
type kind string

const (
	relays  kind = "relays"  // the server polls relays that connect to it
	targets kind = "targets" // the server scrapes each host over HTTP
	points  kind = "points"  // each host writes line protocol over HTTP
)

// A fleet is the hosts of a size.
type fleet struct {
	Kind       kind
	Address    string // the server's; of targets, 127.0.0.1 and the port on which all hosts listen
	Hosts      int
	Stats      int
	Collectors int // of each relay
	Every      time.Duration
	Seed       uint64
}

// fleetTimeout is how long the fleet may take to connect.
const fleetTimeout = time.Minute

// playFleet is the process of the fleet. It says "ready" when all hosts are there, and ends when
// its input ends, which it does at the latest with the process that started it.
func playFleet(ctx context.Context, args []string) error {
	var f fleet
	if len(args) != 1 {
		return fmt.Errorf("usage: %s JSON", fleetCommand)
	}
	if err := json.Unmarshal([]byte(args[0]), &f); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return f.play(ctx, func() { fmt.Println("ready") })
}

// play calls ready when all hosts are there, and returns after ctx has ended. Its error is what the
// hosts met.
func (f *fleet) play(ctx context.Context, ready func()) error {
	hosts := newHosts(f.Seed, f.Hosts, f.Stats)
	switch f.Kind {
	case relays:
		return f.relays(ctx, hosts, ready)
	case targets:
		return f.targets(ctx, hosts, ready)
	case points:
		return f.points(ctx, hosts, ready)
	}
	return fmt.Errorf("there is no fleet of %q", f.Kind)
}

// relays are relays as 0.2's users have them, if each stat is a collector of its own, which has the
// stat's name.
func (f *fleet) relays(ctx context.Context, hosts []host, ready func()) error {
	options := relaytest.FleetOptions{
		Addr: f.Address, N: f.Hosts, Stats: f.Stats, Collectors: f.Collectors,
		Tags:  func(i, _ int) []string { return []string{"service:" + service(i)} },
		Value: func(i, stat int, _ uint64) float64 { return hosts[i][stat].next() },
	}
	if f.Collectors == f.Stats {
		options.Collector = relaytest.FleetStat
	}
	all := relaytest.NewFleet(options)
	connecting, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	if err := all.Start(connecting); err != nil {
		return err
	}
	defer all.Stop()
	ready()
	<-ctx.Done()
	if n := all.Disconnects() + all.Complaints(); n > 0 {
		return fmt.Errorf("%d relays lost their connection or were refused something: %w", n, all.Err())
	}
	return nil
}

// service is the tag of all stats of a host, beside the host's name.
func service(host int) string { return "web" + strconv.Itoa(host%10) }

// A fleetProcess is the fleet in a process of its own, so that its work is not the server's.
type fleetProcess struct {
	cmd *exec.Cmd
	in  io.Closer
}

// start returns when the fleet is ready. The fleet's errors go to stderr.
func (f *fleet) start(ctx context.Context) (*fleetProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, fleetCommand, string(text))
	c.Stderr = os.Stderr
	in, err1 := c.StdinPipe()
	out, err2 := c.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &fleetProcess{cmd: c, in: in}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("the fleet said %q and ended", line), p.stop())
	}
	return p, nil
}

// stop ends the fleet. It returns an error if something went wrong in the fleet.
func (p *fleetProcess) stop() error {
	_ = p.in.Close() // the process may have ended
	kill := time.AfterFunc(fleetTimeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the fleet: %w", err)
	}
	return nil
}
