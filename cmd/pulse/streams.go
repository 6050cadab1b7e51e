package main

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logqueue"
)

// onStandardStreams calls run with the process's stdout and stderr and returns the exit code of run
// after everything that run wrote to stderr is flushed. A reader that goes away ends nothing, and a
// reader that does not read stops nothing.
func onStandardStreams(run func(stdout, stderr io.Writer) int) int {
	// Without this, a write to a pipe that nobody has open ends the process. Now it is an error.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := newLogQueue(os.Stderr)
	defer stderr.Close()
	log.SetOutput(stderr) // net/http logs there what a server sends unasked
	return run(tiedWriter{os.Stdout, stderr}, stderr)
}

// newLogQueue starts a queue in front of w whose missing lines are told like all other lines of the
// log.
func newLogQueue(w io.Writer) *logqueue.Queue {
	return logqueue.New(w, func(lines int) string {
		var b bytes.Buffer
		newLogger(&b, slog.LevelWarn).Warn("lines are missing here: they could not be written to "+
			"the log, or nobody read it in time", "lines", lines)
		return b.String()
	})
}

// droppedLines is the metric of how many lines of the log were dropped.
func droppedLines(q *logqueue.Queue) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "pulse_log_lines_dropped_total",
		Help: "Lines of the log that nobody read in time, or that could not be written.",
	}, func() float64 { return float64(q.Dropped()) })
}

// A tiedWriter flushes stderr before each write to w, so that a terminal shows the lines of both in
// the order in which they were written.
type tiedWriter struct {
	w      io.Writer
	stderr *logqueue.Queue
}

func (t tiedWriter) Write(p []byte) (int, error) {
	t.stderr.Flush()
	return t.w.Write(p)
}
