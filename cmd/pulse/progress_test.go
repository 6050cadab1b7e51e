package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/past"
)

// On a terminal the progress is one line that is overwritten, and other output stands above it.
func TestProgressLine(t *testing.T) {
	var b bytes.Buffer
	now := replayFrom
	l := &progressLine{w: &b, terminal: true, now: func() time.Time { return now }}
	at := func(progress float64) {
		l.show(aReplay(past.StateRunning, progress))
		now = now.Add(5 * time.Second)
	}
	at(0)
	at(0.1)
	at(0.2)
	l.print("hello")
	at(0.9) // 10 s after 0.1
	l.end()
	const erase = "\r\x1b[K"
	want := "replay 3: 0%, 7 of 100,007 events, 1m left" + erase +
		"replay 3: 10%, 10,007 of 100,007 events, 2,000 events/s, 54s left" + erase +
		"replay 3: 20%, 20,007 of 100,007 events, 2,000 events/s, 48s left" + erase +
		"hello\nreplay 3: 20%, 20,007 of 100,007 events, 2,000 events/s, 48s left" + erase +
		"replay 3: 90%, 90,007 of 100,007 events, 8,000 events/s, 6s left" + erase
	if b.String() != want {
		t.Errorf("%q\nwant\n%q", b.String(), want)
	}

	b.Reset()
	job := aReplay(past.StateRunning, 1)
	job.LastError = strings.Repeat("no\n", 99)
	l.show(job)
	if text := b.String(); len(text) != 78 || strings.Contains(text, "\n") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

// On other outputs a line of progress comes from time to time.
func TestProgressLines(t *testing.T) {
	var b bytes.Buffer
	now := replayFrom
	l := &progressLine{w: &b, every: 10 * time.Second, now: func() time.Time { return now }}
	for range 60 {
		l.show(aReplay(past.StateRunning, 0.5))
		now = now.Add(time.Second)
	}
	l.end()
	if lines := strings.Count(b.String(), "\n"); lines != 6 || regexp.MustCompile(`\r|\x1b`).MatchString(b.String()) {
		t.Errorf("%d lines: %q", lines, b.String())
	}
	if f, err := os.Open("replay_test.go"); err != nil || isTerminal(f) || isTerminal(&b) {
		t.Errorf("a file is taken for a terminal (%v)", err)
	} else {
		f.Close()
	}
}
