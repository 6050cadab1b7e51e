// Package testtools runs real servers for tests: InfluxDB 1.8 and 1.6 and Kapacitor 1.5. Each
// server listens on a free port of 127.0.0.1 and has its data in the test's own directory. A start
// returns when the server answers. If the server does not answer, the test fails and shows the
// server's log. A test that fails later shows the log too. Every server ends with its test, and
// with the test process if the process dies.
//
// The programs come from tools/install.sh (make tools). If a program is missing, the test fails and
// says so, because a suite that skips its tests proves nothing.
package testtools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
)

// startTime is how long a server may take to answer. A server needs a quarter of a second on an
// idle machine, and far longer under -race on a busy one.
const startTime = 60 * time.Second

// Path is Find for a test: a missing program fails the test.
func Path(tb testing.TB, name string) string {
	tb.Helper()
	path, err := Find(name)
	if err != nil {
		tb.Fatalf("testtools: %v", err)
	}
	return path
}

// Find returns the program's path in the cache that tools/install.sh fills:
// $PULSE_TOOLS, else $XDG_CACHE_HOME/pulse-tools, else ~/.cache/pulse-tools.
func Find(name string) (string, error) {
	dir := os.Getenv("PULSE_TOOLS")
	if dir == "" {
		cache := os.Getenv("XDG_CACHE_HOME")
		if cache == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("set PULSE_TOOLS to a directory for the test servers: %w", err)
			}
			cache = filepath.Join(home, ".cache")
		}
		dir = filepath.Join(cache, "pulse-tools")
	}
	path := filepath.Join(dir, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not there: run 'make tools' (tools/install.sh) once, or 'tools/install.sh %s'", path, name)
	}
	return path, nil
}

// Server is a running server. Only the test's own goroutine may call its methods. A method that
// fails fails the test.
type Server struct {
	// Addr is the server's URL, http://127.0.0.1:port, the same after Restart.
	Addr string

	tb     testing.TB
	path   string
	config func(listen string) []byte
	more   []Setting
	dir    string

	log    logBuffer
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
}

// launch starts the server and stops it when the test ends.
func launch(tb testing.TB, name string, settings []Setting, config func(dir, listen string, settings []Setting) []byte) *Server {
	tb.Helper()
	dir := tb.TempDir()
	s := &Server{tb: tb, path: Path(tb, name), dir: dir, more: settings}
	s.config = func(listen string) []byte { return config(dir, listen, s.more) }
	tb.Cleanup(func() {
		s.end(syscall.SIGKILL)
		if tb.Failed() {
			tb.Logf("log of %s:\n%s", name, s.log.tail())
		}
	})
	s.start(freeport.Of(tb))
	return s
}

// Stop ends the server with SIGTERM and waits until it has ended.
func (s *Server) Stop() { s.tb.Helper(); s.end(syscall.SIGTERM) }

// Kill ends the server with SIGKILL, as a power cut would.
func (s *Server) Kill() { s.tb.Helper(); s.end(syscall.SIGKILL) }

// Restart starts a stopped or killed server again with the same data and address. It stops a
// running server first.
func (s *Server) Restart() {
	s.tb.Helper()
	s.end(syscall.SIGTERM)
	s.start(s.Addr[len("http://"):])
}

// Configure adds or replaces lines of the configuration file. The change holds from the next
// Restart on.
func (s *Server) Configure(settings ...Setting) { s.more = append(s.more, settings...) }

// Pause stops the process until Resume, so that it behaves like a server that hangs: its
// connections stay open and unanswered. When Pause returns, no thread of the process runs any more;
// the signal alone takes a moment.
func (s *Server) Pause() {
	s.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		stopped, err := stopped(s.cmd.Process.Pid)
		if stopped {
			return
		}
		if err != nil || time.Now().After(deadline) {
			s.tb.Fatalf("testtools: the process does not stop: %v", err)
		}
	}
}

// stopped reports whether every thread of a process is stopped, according to /proc.
func stopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("process %d is gone: %w", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread has ended
		}
		if err != nil {
			return false, err
		}
		// The state follows the name, which is in parentheses.
		if _, state, ok := strings.Cut(string(stat), ") "); !ok || !strings.HasPrefix(state, "T") {
			return false, nil
		}
	}
	return true, nil
}

// Resume continues a paused server.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("testtools: %v: %v", sig, err)
	}
}

func (s *Server) end(sig syscall.Signal) {
	if s.exited == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // the process may have ended already
	select {
	case <-s.exited:
	case <-time.After(startTime):
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.tb.Errorf("testtools: %s did not end on %v", s.path, sig)
	}
	s.exited = nil
}

func (s *Server) start(listen string) {
	s.tb.Helper()
	file := filepath.Join(s.dir, "server.toml")
	if err := os.WriteFile(file, s.config(listen), 0o600); err != nil {
		s.tb.Fatal(err)
	}
	s.log.restart()
	s.cmd = exec.Command(s.path, "-config", file)
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = dieWithParent()

	exited, started := make(chan struct{}), make(chan error)
	go func() {
		// The kernel kills the server when the thread that started it ends. So this thread stays
		// for as long as the server runs.
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // the exit code does not matter
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		s.tb.Fatalf("testtools: %v", err)
	}
	s.exited = exited
	s.ready()
}

// ready waits until the server has logged its address and answers there.
func (s *Server) ready() {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		if addr := s.log.listening(); addr != "" && ping(ctx, client, "http://"+addr) {
			s.Addr = "http://" + addr
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-s.exited:
			s.exited = nil
			s.tb.Fatalf("testtools: %s ended at once; its log:\n%s", s.path, s.log.tail())
		case <-ctx.Done():
			s.tb.Fatalf("testtools: %s did not answer in %v; its log:\n%s", s.path, startTime, s.log.tail())
		}
	}
}

// ping asks the questions of both kinds of server; the question of the other kind gets a 404.
func ping(ctx context.Context, client *http.Client, base string) bool {
	for _, path := range []string{"/ping", "/kapacitor/v1/ping"} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return false
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			return true
		}
	}
	return false
}

// logBuffer keeps the text that a server writes. It is safe for concurrent use.
type logBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	start int // where the present run's output begins
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.start = b.buf.Len()
}

// tail returns the last 16 KiB.
func (b *logBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.buf.Bytes()
	return string(all[max(0, len(all)-16<<10):])
}

var listenLine = regexp.MustCompile(`msg="[Ll]istening on( HTTP)?".* addr=(\S+)`)

// listening returns the address that the server has logged, or "" if it has not logged one.
func (b *logBuffer) listening() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := listenLine.FindSubmatch(b.buf.Bytes()[b.start:])
	if m == nil {
		return ""
	}
	return string(m[2])
}
