package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nanopack/pulse/internal/human"
	"github.com/nanopack/pulse/internal/logqueue"
	"github.com/nanopack/pulse/projector/past"
)

// isTerminal reports whether a person watches what is written. /dev/null passes for a terminal,
// which nobody sees.
func isTerminal(w io.Writer) bool {
	if q, ok := w.(*logqueue.Queue); ok {
		w = q.Unwrap()
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A progressLine shows the progress of a replay. On a terminal it is one line that is overwritten,
// elsewhere it is a new line now and then. Everything else that the command writes goes through the
// progressLine too, so that it stands above the line that is overwritten. Its methods may be called
// from any goroutine. Errors of w are dropped, because w is where they would be written.
type progressLine struct {
	w        io.Writer
	terminal bool
	every    time.Duration // between two lines, if it is no terminal
	now      func() time.Time

	mu      sync.Mutex // guards what follows
	text    string     // on the terminal now
	last    time.Time  // when a line was written
	samples []sample   // of the last rateOver, oldest first
}

// A sample is how far a replay was at a moment.
type sample struct {
	at     time.Time
	events uint64
}

// rateOver is the time over which events per second are counted. It is long because a replay pauses
// often, to leave the machine to others.
const rateOver = 10 * time.Second

// show shows the progress of a replay.
func (l *progressLine) show(job past.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	text := l.describe(job, now)
	switch {
	case l.terminal:
		l.clear()
		l.text = text
		_, _ = io.WriteString(l.w, text)
	case l.last.IsZero() || now.Sub(l.last) >= l.every:
		l.last = now
		_, _ = io.WriteString(l.w, text+"\n")
	}
}

// describe returns the progress of a replay as one line. The caller holds mu.
func (l *progressLine) describe(job past.Job, now time.Time) string {
	var events, total uint64
	for _, p := range job.Parts {
		events, total = events+p.Events, total+p.EventsTotal
	}
	for len(l.samples) > 0 && (now.Sub(l.samples[0].at) > rateOver || events < l.samples[0].events) {
		l.samples = l.samples[1:]
	}
	l.samples = append(l.samples, sample{now, events})
	if job.State == past.StateWaiting {
		return fmt.Sprintf("replay %s is waiting for its turn", job.ID)
	}
	text := fmt.Sprintf("replay %s: %.0f%%, %s of %s events", job.ID, 100*min(max(job.Progress, 0), 1), human.Thousands(events), human.Thousands(total))
	if first := l.samples[0]; now.After(first.at) {
		text += fmt.Sprintf(", %s events/s", human.Thousands(uint64(float64(events-first.events)/now.Sub(first.at).Seconds())))
	}
	if job.SecondsLeft != nil {
		text += fmt.Sprintf(", %s left", human.Seconds(*job.SecondsLeft))
	}
	if job.LastError != "" {
		text += ", held up: " + job.LastError
	}
	// A text that is longer than a line could not be overwritten.
	if text = strings.ReplaceAll(text, "\n", "; "); l.terminal && utf8.RuneCountInString(text) > 78 {
		text = string([]rune(text)[:75]) + "..."
	}
	return text
}

// print writes a line of its own.
func (l *progressLine) print(text string) { fmt.Fprintln(l, text) }

// Write writes whole lines above the line that is overwritten.
func (l *progressLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	n, err := l.w.Write(b)
	_, _ = io.WriteString(l.w, l.text)
	return n, err
}

// end removes the line.
func (l *progressLine) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	l.text = ""
}

// clear empties the line on the terminal. The caller holds mu.
func (l *progressLine) clear() {
	if l.text != "" {
		_, _ = io.WriteString(l.w, "\r\x1b[K")
	}
}
