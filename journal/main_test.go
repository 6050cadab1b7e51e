package journal

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/journal/codec"
)

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv("PULSE_JOURNAL_CHILD")]; ok {
		run() // a child process that a test started, to be killed
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		template.remove()
		os.Exit(code)
	}))
}

// children are the programs that the test binary can run as, by the value of PULSE_JOURNAL_CHILD.
var children = map[string]func(){}

// testLog returns a logger that writes to the test's log.
func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// open opens a journal and closes it at the end of the test, if the test did not.
func open(tb testing.TB, o Options) *Journal {
	tb.Helper()
	j, err := tryOpen(tb, o)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

// bothWays runs a test twice: with readers that are served from the tail when they can be, and with
// readers that always ask the server. open knows the second way by the test's name.
func bothWays(t *testing.T, test func(t *testing.T)) {
	t.Run("tail", test)
	t.Run(serverOnly, test)
}

const serverOnly = "server"

func tryOpen(tb testing.TB, o Options) (*Journal, error) {
	tb.Helper()
	o.noTail = o.noTail || strings.HasSuffix(tb.Name(), "/"+serverOnly)
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Logger == nil {
		o.Logger = testLog(tb)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	j, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { closeJournal(tb, j) })
	return j, nil
}

func closeJournal(tb testing.TB, j *Journal) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		tb.Errorf("closing: %v", err)
	}
}

// sample is an event of ten readings, as relays send them.
func sample(relay string, n int) *codec.Event {
	v := float64(n)
	return &codec.Event{Relay: relay, Time: 1795416970017829163 + int64(n), Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []codec.Stat{{ID: "cpu_used", Value: v}, {ID: "cpu_idle", Value: 99.75}, {ID: "cpu_wait", Value: 0.0312}, {ID: "cpu_steal", Value: 0}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []codec.Stat{{ID: "ram_used", Value: 73.5211}, {ID: "ram_free", Value: 26.4789}, {ID: "ram_total", Value: 16777216}}},
		{Name: "disk", Tags: []string{"mount:/"}, Stats: []codec.Stat{{ID: "disk_used", Value: 41.2}, {ID: "disk_free", Value: 58.8}, {ID: "disk_inodes", Value: 1.5}}},
	}}
}

func appendN(tb testing.TB, j *Journal, relay string, from, n int) (last uint64) {
	tb.Helper()
	for i := range n {
		seq, err := j.Append(tb.Context(), sample(relay, from+i))
		if err != nil {
			tb.Fatalf("append %d: %v", i, err)
		}
		last = seq
	}
	return last
}

// readN reads n records, failing at a gap.
func readN(tb testing.TB, r *Reader, n int) (seqs []uint64, times []int64) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Minute)
	defer cancel()
	for len(seqs) < n {
		recs, err := r.Read(ctx, n-len(seqs))
		if err != nil {
			tb.Fatalf("after %d of %d records: %v", len(seqs), n, err)
		}
		for _, rec := range recs {
			if rec.Err != nil {
				tb.Fatalf("record %d: %v", rec.Seq, rec.Err)
			}
			seqs = append(seqs, rec.Seq)
			if rec.Event != nil {
				times = append(times, rec.Event.Time)
			}
		}
	}
	return seqs, times
}

// eventually polls until ok, or fails the test.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within 30s: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // polling, with a deadline
	}
}

func from1(tb testing.TB, j *Journal, seq uint64) *Reader {
	tb.Helper()
	r, err := j.ReadFrom(seq)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}
