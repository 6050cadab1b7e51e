package journal

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/logtest"
)

// A reader that was not read for a while gets heartbeats before its events, and does not take them
// for a problem.
func TestReaderNotReadForAWhile(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	j := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), noTail: true})
	appendN(t, j, "web1", 0, 1)
	r, err := j.ReadFrom(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	waiting := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); len(r.pull.msgs) < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d messages wait, want %d", len(r.pull.msgs), n)
			}
		}
	}
	const heartbeats, events = stuckAfter + 1, 5
	waiting(heartbeats)
	last := appendN(t, j, "web1", 1, events)
	waiting(heartbeats + events)
	for seq := uint64(0); seq < last; {
		records, err := r.Read(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		seq = records[len(records)-1].Seq
	}
	if text := log.String(); strings.Contains(text, "cannot be read") {
		t.Errorf("the log says:\n%s", text)
	}
}
