package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxQueued is how many bytes of a log wait for whoever reads it.
	maxQueued = 1 << 20
	// flushTimeout bounds the wait for a reader at the end of the process.
	flushTimeout = time.Second
	// retryFull is the pause before another try at a file that is full for now: somebody else
	// who has it open made it non-blocking.
	retryFull = 50 * time.Millisecond
)

// A sink takes what a process writes for people: the log, and the lines of commands. A write to it
// never blocks and never fails, whatever becomes of the file or pipe: a pipe that nobody reads
// would otherwise stop each goroutine that logs, with every lock that it holds.
//
// Lines wait in a queue of maxQueued bytes for the goroutine that writes them. Lines that do not
// fit, or cannot be written, are dropped and counted, and one line in their place says how many, as
// soon as a write works again. What is still queued when a crash or a kill ends the process is lost.
type sink struct {
	w       io.Writer
	torn    bool          // what w took last ends within a line; of drain alone
	dropped atomic.Uint64 // lines
	wake    chan struct{}
	ended   chan struct{} // closed when nothing writes to w any more

	mu      sync.Mutex
	queue   []byte
	missing int           // lines that did not fit behind the queue; while there are any, none is queued
	busy    bool          // something is being written
	late    bool          // somebody waited in vain for what is being written
	idle    chan struct{} // closed when all is written; nil if nobody waits
	closed  bool
}

func newSink(w io.Writer) *sink {
	s := &sink{w: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go s.drain()
	return s
}

// metric is how many lines were dropped.
func (s *sink) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pulse_log_lines_dropped_total",
		Help: "Lines of the log that nobody read in time, or that could not be written.",
	}, func() float64 { return float64(s.dropped.Load()) })
}

// Write queues a copy of p, which holds whole lines. It returns no error: there is nobody to tell.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := bytes.Count(p, []byte("\n"))
	switch {
	case s.closed:
		s.dropped.Add(uint64(lines))
	case s.missing > 0 || len(s.queue) > 0 && len(s.queue)+len(p) > maxQueued:
		s.missing += lines
		s.dropped.Add(uint64(lines))
	default:
		s.queue = append(s.queue, p...)
		s.signal()
	}
	return len(p), nil
}

func (s *sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Flush waits until what was queued is written, for flushTimeout at most. Where somebody has waited
// in vain, it does not wait again until something was written.
func (s *sink) Flush() {
	s.mu.Lock()
	if s.late || !s.busy && len(s.queue) == 0 {
		s.mu.Unlock()
		return
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-idle:
	case <-timeout.C:
		s.mu.Lock()
		s.late = s.busy
		s.mu.Unlock()
	}
}

// Close flushes, for flushTimeout at most, and drops what is written from then on.
func (s *sink) Close() {
	s.mu.Lock()
	s.closed = true
	s.signal()
	s.mu.Unlock()
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-s.ended:
	case <-timeout.C:
	}
}

// drain writes what is queued until the sink is closed.
func (s *sink) drain() {
	defer close(s.ended)
	var spare []byte
	lost := 0 // lines for which no line stands in the log yet
	for {
		batch, missing, open := s.take(spare[:0])
		if !open {
			return
		}
		if lost > 0 && s.say(lost) == nil {
			lost = 0
		}
		err := s.put(batch)
		if failed, ok := errors.AsType[*putError](err); ok {
			s.dropped.Add(uint64(failed.lines))
			lost += failed.lines
		}
		lost += missing
		if lost > 0 && err == nil && s.say(lost) == nil {
			lost = 0
		}
		spare = batch
	}
}

// take waits for something to write, and makes room for what comes next.
func (s *sink) take(spare []byte) (batch []byte, missing int, open bool) {
	for {
		s.mu.Lock()
		s.busy, s.late = len(s.queue) > 0, false
		if s.busy {
			batch, s.queue = s.queue, spare
			missing, s.missing = s.missing, 0
			s.mu.Unlock()
			return batch, missing, true
		}
		if s.idle != nil {
			close(s.idle)
			s.idle = nil
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return nil, 0, false
		}
		<-s.wake
	}
}

// A putError is that some lines were not written.
type putError struct {
	error
	lines int
}

// put writes all of p or returns a *putError.
func (s *sink) put(p []byte) error {
	for {
		n, err := s.w.Write(p)
		if err == nil {
			s.torn = false
			return nil
		}
		if n > 0 {
			s.torn = p[n-1] != '\n'
		}
		p = p[n:]
		if !errors.Is(err, syscall.EAGAIN) {
			return &putError{err, bytes.Count(p, []byte("\n"))}
		}
		time.Sleep(retryFull)
	}
}

// say puts a line in the place of others.
func (s *sink) say(lines int) error {
	var b bytes.Buffer
	if s.torn {
		b.WriteByte('\n')
	}
	newLogger(&b, slog.LevelWarn).Warn("lines are missing here: they could not be written to the log, or nobody read it in time", "lines", lines)
	return s.put(b.Bytes())
}

// onStandardStreams calls run with the process's stdout and stderr in a form in which a reader who
// goes away ends nothing and one who does not read stops nothing, and returns its exit code when
// what it wrote to stderr is flushed.
func onStandardStreams(run func(stdout, stderr io.Writer) int) int {
	// Without this, a write to a pipe that nobody has open ends the process. Now it is an error.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := newSink(os.Stderr)
	defer stderr.Close()
	log.SetOutput(stderr) // net/http logs there what a server sends unasked
	return run(tiedWriter{os.Stdout, stderr}, stderr)
}

// A tiedWriter writes to w after what stderr was given before, so that a terminal shows both in the
// order in which they were written.
type tiedWriter struct {
	w      io.Writer
	stderr *sink
}

func (t tiedWriter) Write(p []byte) (int, error) {
	t.stderr.Flush()
	return t.w.Write(p)
}
