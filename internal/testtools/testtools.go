// Package testtools runs real servers for tests: InfluxDB 1.8 and 1.6 and
// Kapacitor 1.5, each on a free port of 127.0.0.1 with its data in the test's
// own directory. A start returns when the server answers and fails the test
// when it does not, with the server's log; so does a test that fails later.
// Every server ends with its test, and with the test process if that dies.
//
// The programs come from tools/install.sh (make tools). A missing one fails
// the test and says so: a suite that skips proves nothing.
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

// startTime is how long a server may take to answer: they need a quarter of a
// second alone, and far longer under -race on a busy machine.
const startTime = 60 * time.Second

// Path returns the program's path in the cache that tools/install.sh fills:
// $PULSE_TOOLS, else $XDG_CACHE_HOME/pulse-tools, else ~/.cache/pulse-tools.
func Path(tb testing.TB, name string) string {
	tb.Helper()
	dir := os.Getenv("PULSE_TOOLS")
	if dir == "" {
		cache := os.Getenv("XDG_CACHE_HOME")
		if cache == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				tb.Fatalf("testtools: set PULSE_TOOLS to a directory for the test servers: %v", err)
			}
			cache = filepath.Join(home, ".cache")
		}
		dir = filepath.Join(cache, "pulse-tools")
	}
	path := filepath.Join(dir, "bin", name)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("testtools: %s is not there: run 'make tools' (tools/install.sh) once", path)
	}
	return path
}

// Server is a running server. Its methods are for the test's own goroutine and
// fail the test when they cannot do what they say.
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
	exited chan struct{} // closed when the process is gone
}

// launch starts the server and ends it with the test.
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

// Stop ends the server as its operator would and waits for it.
func (s *Server) Stop() { s.tb.Helper(); s.end(syscall.SIGTERM) }

// Kill ends the server with SIGKILL, as a power cut would.
func (s *Server) Kill() { s.tb.Helper(); s.end(syscall.SIGKILL) }

// Restart starts a stopped or killed server again on its data and address. A
// running one is stopped first.
func (s *Server) Restart() {
	s.tb.Helper()
	s.end(syscall.SIGTERM)
	s.start(s.Addr[len("http://"):])
}

// Configure adds lines to the configuration file, or replaces some, from the
// next Restart on.
func (s *Server) Configure(settings ...Setting) { s.more = append(s.more, settings...) }

// Pause stops the process from running, connections open and unanswered, until Resume: a server
// that hangs. When Pause returns no thread of it runs any more; the signal alone takes a moment.
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

// stopped reports whether every thread of a process has stopped, as /proc says.
func stopped(pid int) (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("process %d is gone: %w", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended
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

// Resume lets a paused server go on.
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
	_ = s.cmd.Process.Signal(sig) // it may be gone already
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
		// The kernel ends the server when the thread that started it ends,
		// so this one stays for as long as the server runs.
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // its exit code tells nothing
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		s.tb.Fatalf("testtools: %v", err)
	}
	s.exited = exited
	s.ready()
}

// ready waits until the server has said where it listens, and answers there.
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

// ping asks both kinds of server; the wrong question gets a 404.
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

// logBuffer keeps what a server writes. The process writes, the test reads.
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

// listening returns the address from the server's own log: port 0 leaves the
// choice to the kernel, and no other process can take it in between.
func (b *logBuffer) listening() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := listenLine.FindSubmatch(b.buf.Bytes()[b.start:])
	if m == nil {
		return ""
	}
	return string(m[2])
}
