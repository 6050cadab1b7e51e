package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
)

// asPulse returns a command that runs this binary as pulse. The buffer gets its stderr.
func asPulse(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), runAsPulse+"=1")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	return c, &stderr
}

// closedPipe returns the writing end of a pipe that has no reader any more.
func closedPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	r.Close()
	return w
}

// TestReaderSeenEnough runs commands whose output goes to a reader that has ended, as head does.
// They end without an error. Only a backup reports one, because a part of a backup is useless.
func TestReaderSeenEnough(t *testing.T) {
	server := startServer(t, t.TempDir(), "--influx-address", "embedded")
	api := "http://" + server.HTTPAddr
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"status", "--api", api}, command.ExitOK, ""},
		{[]string{"status", "--json", "--api", api}, command.ExitOK, ""},
		{[]string{"-h"}, command.ExitOK, ""},
		{[]string{"--check-config"}, command.ExitOK, "how far it reaches back"},
		{[]string{"help", "status"}, command.ExitOK, ""},
		{[]string{"version"}, command.ExitOK, ""},
		{[]string{"backup", "--api", api, "-"}, command.ExitFailure, "broken pipe"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			c, stderr := asPulse(t, test.args...)
			c.Stdout = closedPipe(t)
			err := c.Run()
			if c.ProcessState == nil || c.ProcessState.ExitCode() != test.code || (test.want == "") != (stderr.Len() == 0) || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("it ended with %v and says %q", err, stderr.String())
			}
		})
	}
	// If nobody reads the line about a failure, the exit code still shows the failure.
	c, _ := asPulse(t, "status", "--api", "ftp://x")
	c.Stderr = closedPipe(t)
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != command.ExitUsage {
		t.Errorf("without a stderr it ended with %v", err)
	}
}

// serverInto starts a server whose stdout and stderr are a pipe, and returns the reading end.
func serverInto(t *testing.T, args ...string) (*pulseproc.Server, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Args: append([]string{"--influx-address", "embedded", "-l", "TRACE", "-p", "1"}, args...), Stdio: w})
	err = s.Start(t.Context())
	w.Close() // the server has its own copy
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// awaitDropped makes the server log until it has dropped lines.
func awaitDropped(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	await(t, s, "dropped lines", 2*time.Minute, func() error {
		n, err := s.Metric("pulse_log_lines_dropped_total")
		if err == nil && n == 0 {
			err = errors.New("no line was dropped yet")
		}
		return err
	})
}

// TestLogReaderGoes ends the reader of the log while a server and an agent write to it, as `pulse
// -s 2>&1
// head -3` does. Both keep running, and stop cleanly.
func TestLogReaderGoes(t *testing.T) {
	t.Parallel()
	s, log := serverInto(t)
	for lines := bufio.NewScanner(log); !strings.Contains(lines.Text(), "curl"); { // the greeting
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
	}
	log.Close()
	agent, _ := asPulse(t, "relay", "--server", s.RelayAddr, "--id", "agent", "--log-level", "TRACE")
	agent.Stdout, agent.Stderr = closedPipe(t), closedPipe(t)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, s, "readings of the agent", time.Minute, func() error {
		var latest stat
		return s.Get("/latest/ram_total?host=agent", &latest)
	})
	awaitDropped(t, s)
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// TestLogReaderStuck has a reader of the log that exists but does not read. Alerts, the API and the
// stop still work. When the reader reads again, the log says how many lines are missing.
func TestLogReaderStuck(t *testing.T) {
	t.Parallel()
	s, log := serverInto(t, "--host-stats")
	// Each request gives a log line; the first lines fill the pipe and the queue.
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for range 10_000 {
		response, err := client.Get("http://" + s.HTTPAddr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	awaitDropped(t, s)
	posts := make(chan struct{}, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posts <- struct{}{} }))
	defer receiver.Close()
	_, err := putAlert(s, http.MethodPost, map[string]any{"metric": "ram_total", "level": "crit", "operator": "gt", "threshold": 0, "duration": "5s", "every": "1s", "post": receiver.URL})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-posts:
	case <-time.After(time.Minute):
		t.Error("nothing was posted")
	}
	said := make(chan string)
	var all []byte
	go func() {
		for lines := bufio.NewReader(log); ; {
			line, err := lines.ReadString('\n')
			all = append(all, line...)
			if err != nil || strings.Contains(line, "lines are missing here") {
				said <- line
				break
			}
		}
	}()
	if line := <-said; !strings.Contains(line, "lines are missing here") {
		t.Errorf("the log says %q", line)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
