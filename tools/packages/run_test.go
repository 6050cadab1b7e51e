package main

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startUnit starts a program in the system as its unit does, as its user. See start.
func (s system) startUnit(t *testing.T, name string, env ...string) <-chan string {
	t.Helper()
	unit := s.read("/usr/lib/systemd/system/" + name + ".service")
	exec := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	user := regexp.MustCompile(`(?m)^User=(.*)$`).FindStringSubmatch(unit)
	if exec == nil || user == nil {
		t.Fatalf("the unit of %s says no program or no user:\n%s", name, unit)
	}
	return s.start(t, user[1], strings.Fields(exec[1]), env...)
}

// start starts a program in the system. env is its environment besides the usual. The program ends
// with the test. The lines of its standard output come back.
func (s system) start(t *testing.T, user string, args []string, env ...string) <-chan string {
	t.Helper()
	cmd, name := s.inside(user, args...), filepath.Base(args[0])
	cmd.Env = append(cmd.Env, env...)
	log := filepath.Join(t.TempDir(), "log")
	stderr, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for range lines { // until it has ended
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stderr.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", name, text)
		}
	})
	return lines
}

// anyPorts has a server listen on free ports of 127.0.0.1.
var anyPorts = []string{"PULSE_HTTP_LISTEN_ADDRESS=127.0.0.1:0", "PULSE_SERVER_LISTEN_ADDRESS=127.0.0.1:0", "PULSE_NATS_LISTEN_ADDRESS=127.0.0.1:0"}

// listening reads from the greeting of a server where it listens.
func listening(t *testing.T, greeting <-chan string) (api, relays string) {
	t.Helper()
	for limit := time.After(time.Minute); api == ""; {
		select {
		case line, ok := <-greeting:
			if !ok {
				t.Fatal("the server ended")
			}
			switch words := strings.Fields(line); {
			case len(words) == 2 && words[0] == "relays":
				relays = words[1]
			case len(words) == 2 && words[0] == "api":
				api = words[1]
			}
		case <-limit:
			t.Fatal("the server does not start")
		}
	}
	return api, relays
}

// findHost starts the server and the agent, and waits until the server has a reading of this host.
func (s system) findHost(t *testing.T, token string) {
	api, relays := listening(t, s.startUnit(t, "pulse", anyPorts...))
	s.startUnit(t, "pulse-relay", "PULSE_RELAY_SERVER="+relays)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/latest/cpu_used?host="+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-AUTH-TOKEN", token)
	started := time.Now()
	for tick := time.NewTicker(200 * time.Millisecond); ; <-tick.C {
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Logf("the host is there after %v", time.Since(started).Round(time.Millisecond))
			return
		}
		if time.Since(started) > time.Minute {
			t.Fatalf("after a minute the host is not there: %s", answer.Status)
		}
	}
}
