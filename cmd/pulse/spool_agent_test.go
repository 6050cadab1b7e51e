package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nanopack/pulse/relaywire/relay"
)

const (
	// runAsAgent makes the test binary an agent that counts: its value is the directory of its
	// spool and of its list of what it sampled.
	runAsAgent = "TEST_BINARY_IS_AGENT"
	agentID    = "TEST_AGENT_ID"
	agentTo    = "TEST_AGENT_ADDRESS"
)

// lifeOfAgent is how many values a life of an agent may have.
const lifeOfAgent = 1_000_000

// countingAgent is a relay with two collectors, whose values are never the same twice. It lists each
// value of stat_0 before the library has it.
func countingAgent(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
	}
	samples, err := os.OpenFile(filepath.Join(dir, "samples"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	fail(err)
	old, err := io.ReadAll(samples)
	fail(err)
	lives := 0
	for line := range strings.Lines(string(old)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		fail(err)
		lives = max(lives, n/lifeOfAgent)
	}
	next := float64((lives + 1) * lifeOfAgent)
	r, err := relay.New(relay.Options{Address: os.Getenv(agentTo), ID: os.Getenv(agentID), Spool: &relay.SpoolOptions{Dir: filepath.Join(dir, "spool")}})
	fail(err)
	fail(r.AddCollector("stat_0", []string{"service:count"}, relay.NewPointCollector(func() float64 {
		next++
		_, err := fmt.Fprintf(samples, "%.0f\n", next)
		fail(err)
		return next
	})))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	fail(r.Close())
}

// A countedAgent is a countingAgent in a process of its own.
type countedAgent struct {
	t           *testing.T
	id, dir, to string
	cmd         *exec.Cmd
}

func (a *countedAgent) start() {
	a.t.Helper()
	binary, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	a.cmd = exec.Command(binary)
	a.cmd.Env = append(os.Environ(), runAsAgent+"="+a.dir, agentID+"="+a.id, agentTo+"="+a.to)
	a.cmd.Stderr = os.Stderr
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *countedAgent) end(how syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(how); err != nil {
		a.t.Fatal(err)
	}
	if err := a.cmd.Wait(); err != nil && how != syscall.SIGKILL {
		a.t.Errorf("agent %s: %v", a.id, err)
	}
}

// sampled returns the values that the agent listed, in their order.
func (a *countedAgent) sampled() (list []float64) {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, "samples"))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		v, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			a.t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}
