package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A fickleWriter keeps what is written to it. It waits while stuck is open, and fails with err
// after a number of bytes.
type fickleWriter struct {
	mu    sync.Mutex
	took  bytes.Buffer
	stuck chan struct{} // nil: it never waits
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

const missing = "lines are missing here: "

func newQueue(w io.Writer) *Queue {
	return New(w, func(lines int) string { return fmt.Sprintf("%s%d\n", missing, lines) })
}

// TestOrder checks that a queue writes all lines in order before Close returns.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w fickleWriter
		s := newQueue(&w)
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
		if n := s.Dropped(); n != 1 {
			t.Errorf("%d lines are counted as dropped, want the one after Close", n)
		}
	})
}

// TestReaderStuck has a reader that pauses and then reads again. No write waits for the reader, the
// queue stays within its bound, and one line replaces the missing lines.
func TestReaderStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		w := &fickleWriter{stuck: stuck}
		s := newQueue(w)
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
		if len(s.queue) > MaxBytes {
			t.Errorf("%d bytes are queued", len(s.queue))
		}
		s.Flush()
		if took := time.Since(began); took != FlushTimeout {
			t.Errorf("Flush waited for %v", took)
		}
		s.Flush()
		if took := time.Since(began); took != FlushTimeout {
			t.Errorf("a second Flush waited for %v", took)
		}
		w.set(nil, nil, 0)
		close(stuck)
		synctest.Wait()
		kept := strings.Count(w.text(), line)
		dropped := int(s.Dropped())
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

// TestCloseStuck checks that Close gives up after FlushTimeout.
func TestCloseStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{stuck: make(chan struct{})}
		s := newQueue(w)
		io.WriteString(s, "line\n")
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != FlushTimeout {
			t.Errorf("Close took %v", took)
		}
		close(w.stuck)
		<-s.ended
	})
}

// TestErrors has a file that takes a part of a line and then nothing more for a while, as on a full
// disk. The missing lines are counted, and a line of its own says how many there are.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{err: syscall.ENOSPC, after: len("one\ntw")}
		s := newQueue(w)
		for _, line := range []string{"one\ntwo\n", "three\n", "four\n"} {
			io.WriteString(s, line)
			synctest.Wait()
		}
		if n := s.Dropped(); n != 3 {
			t.Errorf("%d lines are counted as dropped, want 3", n)
		}
		w.set(nil, nil, 0)
		io.WriteString(s, "five\n")
		s.Close()
		if w.text() != "one\ntw\n"+missing+"3\nfive\n" {
			t.Errorf("the log is %q", w.text())
		}
	})
}

// TestFullForNow checks that a queue tries again when a file is full only for a moment.
func TestFullForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fickleWriter{err: syscall.EAGAIN, after: 2}
		s := newQueue(w)
		io.WriteString(s, "one\n")
		time.Sleep(10 * retryFull)
		w.set(nil, nil, 0)
		s.Close()
		if w.text() != "one\n" || s.Dropped() != 0 {
			t.Errorf("the log is %q", w.text())
		}
	})
}
