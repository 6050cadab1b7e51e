package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
)

// A fickleWriter takes what is written, waits while it is stuck, or fails with err after so many
// bytes.
type fickleWriter struct {
	mu    sync.Mutex
	took  bytes.Buffer
	stuck chan struct{} // nil: it takes everything
	err   error
	after int
}

func (w *fickleWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stuck := w.stuck; stuck != nil {
		w.mu.Unlock()
		<-stuck
		w.mu.Lock()
	}
	if w.err != nil {
		n := min(w.after, len(p))
		w.took.Write(p[:n])
		w.after -= n
		return n, w.err
	}
	return w.took.Write(p)
}

func (w *fickleWriter) set(stuck chan struct{}, err error, after int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stuck, w.err, w.after = stuck, err, after
}

func (w *fickleWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.took.String()
}

const missing = `level=WARN msg="lines are missing here: they could not be written to the log, or nobody read it in time" lines=`

// TestSinkOrder writes what it gets, all of it and in order, by the time it is closed.
func TestSinkOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w fickleWriter
		s := newSink(&w)
		var want strings.Builder
		for i := range 10_000 {
			line := fmt.Sprintf("line %d\n", i)
			want.WriteString(line)
			if n, err := io.WriteString(s, line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.Flush()
		if w.text() != want.String() {
			t.Error("after Flush it lacks lines")
		}
		io.WriteString(s, "the last\n")
		s.Close()
		if got, _ := strings.CutPrefix(w.text(), want.String()); got != "the last\n" {
			t.Errorf("Close left %q", got)
		}
		io.WriteString(s, "too late\n")
		if n := s.dropped.Load(); n != 1 {
			t.Errorf("%d lines are counted as dropped, want the one after Close", n)
		}
	})
}

// TestSinkReaderStuck has a reader who does not read, and then does. No write waits for the reader,
// the queue has its bound, and one line stands where lines are missing.
func TestSinkReaderStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		w := &fickleWriter{stuck: stuck}
		s := newSink(w)
		began := time.Now()
		line := strings.Repeat("x", 999) + "\n"
		io.WriteString(s, line)
		synctest.Wait() // this one is being written
		const lines = 3000
		for range lines {
			io.WriteString(s, line)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("writes waited for %v", took)
		}
		if len(s.queue) > maxQueued {
			t.Errorf("%d bytes are queued", len(s.queue))
		}
		s.Flush()
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("Flush waited for %v", took)
		}
		s.Flush()
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("a second Flush waited for %v", took)
		}
		w.set(nil, nil, 0)
		close(stuck)
		synctest.Wait()
		kept := strings.Count(w.text(), line)
		dropped := int(s.dropped.Load())
		if kept < 1000 || kept+dropped != lines+1 {
			t.Errorf("%d lines are kept and %d dropped of %d", kept, dropped, lines+1)
		}
		if want := fmt.Sprintf("%s%d\n", missing, dropped); !strings.HasSuffix(w.text(), want) || strings.Count(w.text(), missing) != 1 {
			t.Errorf("it does not end with %q", want)
		}
		io.WriteString(s, "news\n")
		s.Close()
		if !strings.HasSuffix(w.text(), "\nnews\n") {
			t.Error("what came after is missing")
		}
	})
}

// TestSinkCloseStuck gives up after flushTimeout.
func TestSinkCloseStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{stuck: make(chan struct{})}
		s := newSink(w)
		io.WriteString(s, "line\n")
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != flushTimeout {
			t.Errorf("Close took %v", took)
		}
		close(w.stuck)
		<-s.ended
	})
}

// TestSinkErrors has a file that takes a part of a line and then nothing more for a while, as on a
// full disk. What is missing is counted and said, on a line of its own.
func TestSinkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{err: syscall.ENOSPC, after: len("one\ntw")}
		s := newSink(w)
		for _, line := range []string{"one\ntwo\n", "three\n", "four\n"} {
			io.WriteString(s, line)
			synctest.Wait()
		}
		if n := s.dropped.Load(); n != 3 {
			t.Errorf("%d lines are counted as dropped, want 3", n)
		}
		w.set(nil, nil, 0)
		io.WriteString(s, "five\n")
		s.Close()
		first, rest, _ := strings.Cut(w.text(), "\ntw\n")
		if _, rest, _ = strings.Cut(rest, " "); first != "one" || rest != missing+"3\nfive\n" {
			t.Errorf("the log is %q", w.text())
		}
	})
}

// TestSinkFullForNow tries again where a file is full for a moment only.
func TestSinkFullForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{err: syscall.EAGAIN, after: 2}
		s := newSink(w)
		io.WriteString(s, "one\n")
		time.Sleep(10 * retryFull)
		w.set(nil, nil, 0)
		s.Close()
		if w.text() != "one\n" || s.dropped.Load() != 0 {
			t.Errorf("the log is %q", w.text())
		}
	})
}

// asPulse is this binary as pulse, with what it writes to stderr kept.
func asPulse(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), runAsPulse+"=1")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	return c, &stderr
}

// closedPipe is the writing end of a pipe that nobody reads any more.
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
// They end quietly; a backup, of which a part is worth nothing, says so.
func TestReaderSeenEnough(t *testing.T) {
	server := startServer(t, t.TempDir(), "--influx-address", "embedded")
	api := "http://" + server.HTTPAddr
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"status", "--api", api}, exitOK, ""},
		{[]string{"status", "--json", "--api", api}, exitOK, ""},
		{[]string{"-h"}, exitOK, ""},
		{[]string{"--check-config"}, exitOK, ""},
		{[]string{"help", "status"}, exitOK, ""},
		{[]string{"version"}, exitOK, ""},
		{[]string{"backup", "--api", api, "-"}, exitFailure, "broken pipe"},
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
	// A failure whose line nobody reads is still told by the exit code.
	c, _ := asPulse(t, "status", "--api", "ftp://x")
	c.Stderr = closedPipe(t)
	if err := c.Run(); c.ProcessState == nil || c.ProcessState.ExitCode() != exitUsage {
		t.Errorf("without a stderr it ended with %v", err)
	}
}

// serverInto makes a server whose stdout and stderr are a pipe, and returns the reading end.
func serverInto(t *testing.T, args ...string) (*pulseproc.Server, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s := serverOf(t, pulseproc.Options{DataDir: t.TempDir(), Args: append([]string{"--influx-address", "embedded", "-l", "TRACE", "-p", "1"}, args...), Stdio: w})
	err = s.Start(t.Context())
	w.Close() // the server has its own
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

// TestLogReaderGoes ends the reader of the log while a server and an agent write to it, as
// `pulse -s 2>&1 | head -3` does. Both go on, and stop cleanly.
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

// TestLogReaderStuck has a reader of the log who is there and does not read. Alerts, the API and the
// stop go on. When somebody reads, the log says how many lines are missing.
func TestLogReaderStuck(t *testing.T) {
	t.Parallel()
	s, log := serverInto(t, "--host-stats")
	// Each request is a line; at first they fill the pipe and the queue.
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
	if line := <-said; !strings.Contains(line, missing) {
		t.Errorf("the log says %q", line)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
