package command

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/nanopack/pulse/internal/logqueue"
)

// Levels of Pulse 0.2 that slog does not have.
const (
	LevelTrace = slog.LevelDebug - 4
	LevelFatal = slog.LevelError + 4
)

// LogLevel reads --log-level.
func LogLevel(v string) (slog.Level, error) {
	levels := map[string]slog.Level{
		"TRACE": LevelTrace, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
		"WARN": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": LevelFatal,
	}
	level, ok := levels[strings.ToUpper(v)]
	if !ok {
		err := fmt.Errorf("must be TRACE, DEBUG, INFO, WARN, ERROR or FATAL, not %q", v)
		if meant := MeantBy(v, slices.Sorted(maps.Keys(levels))); meant != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, meant)
		}
		return 0, err
	}
	return level, nil
}

// NewLogger returns a logger that writes lines for people and for journald: time, level, message,
// then key=value.
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.LevelKey {
				switch a.Value.Any() {
				case LevelTrace:
					return slog.String(a.Key, "TRACE")
				case LevelFatal:
					return slog.String(a.Key, "FATAL")
				}
			}
			return a
		},
	}))
}

// OnStandardStreams calls run with the process's stdout and stderr and returns the exit code of run
// after everything that run wrote to stderr is flushed. A reader that goes away ends nothing, and a
// reader that does not read stops nothing.
func OnStandardStreams(run func(stdout, stderr io.Writer) int) int {
	// Without this, a write to a pipe that nobody has open ends the process. Now it is an error.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := NewLogQueue(os.Stderr)
	defer stderr.Close()
	log.SetOutput(stderr) // net/http logs there what a server sends unasked
	return run(tiedWriter{os.Stdout, stderr}, stderr)
}

// NewLogQueue starts a queue in front of w whose missing lines are told like all other lines of the
// log.
func NewLogQueue(w io.Writer) *logqueue.Queue {
	return logqueue.New(w, func(lines int) string {
		var b bytes.Buffer
		NewLogger(&b, slog.LevelWarn).Warn("lines are missing here: they could not be written to "+
			"the log, or nobody read it in time", "lines", lines)
		return b.String()
	})
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
