package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/internal/testtools"
)

// startTimeout is how long a server may take to answer.
const startTimeout = time.Minute

// A process is a peer that runs as a child process.
type process struct {
	dir      string
	listen   string   // its HTTP address
	hosts    string   // where its targets listen; empty if it has none
	releases []func() // give its ports back
	client   *http.Client

	// numbers is the path at which the server says what it did, and count finds in the answer how
	// many readings it stored.
	numbers string
	count   func(answer []byte) (float64, error)

	cmd    *exec.Cmd
	output pulseproc.Tail
	exited chan struct{} // closed when the process has ended; nil if it never started
}

func newProcess(dir string) (*process, error) {
	listen, release, err := freeport.Claim()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	return &process{dir: dir, listen: listen, releases: []func(){release}, client: client}, nil
}

// start starts the program and returns when it answers a GET of ready. After an error nothing runs.
func (p *process) start(ctx context.Context, program, ready string, args ...string) (err error) {
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	path, err := testtools.Find(program)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir = p.dir
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // how it ended does not matter
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if _, err = p.get(ctx, ready); err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.exited:
			return fmt.Errorf("%s ended at once; its log:\n%s", program, p.log())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; its log:\n%s", program, err, p.log())
		}
	}
}

// get returns the answer to a GET.
func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.listen+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("GET %s: %d %s", path, answer.StatusCode, bytes.TrimSpace(text))
	}
	return text, err
}

func (p *process) address() string {
	if p.hosts != "" {
		return p.hosts
	}
	return p.listen
}

func (p *process) pid() int    { return p.cmd.Process.Pid }
func (p *process) log() string { return p.output.String() }

// readings returns those that are stored. None wait: a peer stores what it takes.
func (p *process) readings(ctx context.Context) (taken, waiting float64, err error) {
	answer, err := p.get(ctx, p.numbers)
	if err != nil {
		return 0, 0, err
	}
	taken, err = p.count(answer)
	return taken, 0, err
}

// stop kills the process, because its data is thrown away.
func (p *process) stop() {
	if p.exited != nil {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.exited
	}
	for _, release := range p.releases {
		release()
	}
	p.releases = nil
}
