// Package pulseproc runs a pulse server as a child process, so that tests and the bench can kill
// it, restart it on the same data and query it over HTTP as its users do.
package pulseproc

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/procfs"
)

// Options of a Server. Binary and DataDir are required.
type Options struct {
	Binary  string
	Env     []string // added to the environment
	DataDir string
	Args    []string    // after -s, the addresses and --data-dir
	Token   string      // the server's token, if it is not the default
	TLS     *tls.Config // for a server that speaks https
	Output  io.Writer   // also gets everything that the process writes; may be nil
	Stdio   *os.File    // the process's stdout and stderr, instead of Log and Output
}

// A Server is a child process. Only one goroutine may call its methods, except Get and Metric,
// which are safe for concurrent use.
type Server struct {
	HTTPAddr, RelayAddr string

	options Options
	claims  []func() // kept to hold the ports, because the server may be started again
	client  *http.Client
	cmd     *exec.Cmd
	log     *Tail
	waited  chan struct{} // closed when the process has ended
	waitErr error         // valid after waited is closed
}

// New picks two free ports. The server keeps them when it restarts.
func New(o Options) (*Server, error) {
	// Connections are not kept, so that a request to a restarted server never goes to its
	// predecessor.
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: o.TLS}
	s := &Server{options: o, client: &http.Client{Timeout: time.Minute, Transport: transport}}
	for _, address := range []*string{&s.HTTPAddr, &s.RelayAddr} {
		claimed, release, err := freeport.Claim()
		if err != nil {
			return nil, err
		}
		*address, s.claims = claimed, append(s.claims, release)
	}
	return s, nil
}

// Start starts the process and returns when it answers /healthz.
func (s *Server) Start(ctx context.Context) error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.Await(ctx, func() (bool, error) {
		status, _, err := s.get("/healthz")
		return err == nil && status == http.StatusOK, nil
	})
}

// Launch starts the process and returns at once.
func (s *Server) Launch() error {
	args := append([]string{"-s", "-H", s.HTTPAddr, "-S", s.RelayAddr, "--nats-listen-address", "", "--data-dir", s.options.DataDir}, s.options.Args...)
	s.cmd = exec.Command(s.options.Binary, args...)
	s.cmd.Env = append(os.Environ(), s.options.Env...)
	s.log = &Tail{}
	output := io.Writer(s.log)
	if s.options.Output != nil {
		output = io.MultiWriter(s.log, s.options.Output)
	}
	s.cmd.Stdout, s.cmd.Stderr = output, output
	if s.options.Stdio != nil {
		s.cmd.Stdout, s.cmd.Stderr = s.options.Stdio, s.options.Stdio
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	waited := make(chan struct{})
	s.waited = waited
	go func(cmd *exec.Cmd) {
		s.waitErr = cmd.Wait()
		close(waited)
	}(s.cmd)
	return nil
}

// Await calls done every 10 ms until it returns true or an error, the process ends, or ctx ends.
func (s *Server) Await(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the server's log ends with:\n%s", ctx.Err(), s.Log())
		case <-s.waited:
			return fmt.Errorf("the server ended: %v; its log ends with:\n%s", s.waitErr, s.Log())
		case <-tick.C:
		}
	}
}

// Welcomes returns nil if the server accepts relays: it identifies a relay and waits for the ok.
func (s *Server) Welcomes() error {
	conn, err := net.Dial("tcp", s.RelayAddr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("id a probe\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "ok\n" {
		err = fmt.Errorf("the server answered %q to an id", line)
	}
	return err
}

// Kill sends SIGKILL and waits until the process has ended.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended by itself
	<-s.waited
}

// Terminate sends SIGTERM and does not wait; a Wait or a Kill follows. A second signal ends the
// process at once.
func (s *Server) Terminate() error { return s.cmd.Process.Signal(syscall.SIGTERM) }

// Stop sends SIGTERM and returns the result of Wait.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return s.Wait()
}

// Wait waits until the process ends and returns its result: nil for exit code 0.
func (s *Server) Wait() error {
	<-s.waited
	if s.waitErr != nil {
		return fmt.Errorf("%w; the server's log ends with:\n%s", s.waitErr, s.Log())
	}
	return nil
}

// Pause stops the process with SIGSTOP. To the process this looks like a suspended machine. Resume
// continues it.
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Pid returns the number of the process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Log returns the last lines that the process wrote.
func (s *Server) Log() string { return s.log.String() }

// RSS returns the resident memory of the process in bytes, now and at its peak.
func (s *Server) RSS() (now, peak int64, err error) { return procfs.RSS(s.Pid()) }

// CPU returns the processor time that the process has used.
func (s *Server) CPU() (time.Duration, error) { return procfs.CPU(s.Pid()) }

// Get sends a GET to the API and decodes the answer into out. A status other than 200 is an error
// that holds the answer.
func (s *Server) Get(path string, out any) error {
	status, body, err := s.get(path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, status, bytes.TrimSpace(body))
	}
	return json.Unmarshal(body, out)
}

// Post sends JSON to the API. A status other than 200 is an error that holds the answer.
func (s *Server) Post(path, body string) error {
	status, answer, err := s.do(http.MethodPost, path, strings.NewReader(body))
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("POST %s: %d %s", path, status, bytes.TrimSpace(answer))
	}
	return err
}

func (s *Server) get(path string) (int, []byte, error) { return s.do(http.MethodGet, path, nil) }

func (s *Server) do(method, path string, content io.Reader) (int, []byte, error) {
	scheme := "http://"
	if s.options.TLS != nil {
		scheme = "https://"
	}
	request, err := http.NewRequest(method, scheme+s.HTTPAddr+path, content)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("X-AUTH-TOKEN", cmp.Or(s.options.Token, "secret"))
	response, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// Metric returns the sum of the samples of a metric whose lines contain all the labels.
func (s *Server) Metric(name string, labels ...string) (float64, error) {
	status, body, err := s.get("/metrics")
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("GET /metrics: %d", status)
	}
	return Sum(body, name, labels...)
}

// Sum returns the sum of the samples of a metric in Prometheus' text format whose lines contain all
// the labels. No such sample is an error.
func Sum(text []byte, name string, labels ...string) (float64, error) {
	var sum float64
	found := false
lines:
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		line := scanner.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("/metrics has no %s%v", name, labels)
	}
	return sum, nil
}

// Count returns how many readings of a stat the aggregates hold: the sum of /hourly with
// verb=count.
func (s *Server) Count(stat string) (uint64, error) {
	var hours []struct{ Value float64 }
	if err := s.Get("/hourly/"+url.PathEscape(stat)+"?verb=count", &hours); err != nil {
		return 0, err
	}
	var n float64
	for _, h := range hours {
		n += h.Value
	}
	return uint64(n), nil
}

// A Tail keeps the end of the text that is written to it. It is safe for concurrent use.
type Tail struct {
	mu   sync.Mutex
	data []byte
}

const tailBytes = 16 << 10

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - tailBytes; over > tailBytes {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

// String returns the end of the text, at least 16 KiB if there is as much.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}
