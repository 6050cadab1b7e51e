package journal

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
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

// children are what the test binary can be started as, by the value of PULSE_JOURNAL_CHILD.
var children = map[string]func(){}

// testLog sends the journal's log to the test's.
func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// open opens a journal and closes it at the test's end, if the test did not.
func open(tb testing.TB, o Options) *Journal {
	tb.Helper()
	j, err := tryOpen(tb, o)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func tryOpen(tb testing.TB, o Options) (*Journal, error) {
	tb.Helper()
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
func sample(relay string, n int) *Event {
	v := float64(n)
	return &Event{Relay: relay, Time: 1795416970017829163 + int64(n), Collectors: []Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []Stat{{"cpu_used", v}, {"cpu_idle", 99.75}, {"cpu_wait", 0.0312}, {"cpu_steal", 0}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []Stat{{"ram_used", 73.5211}, {"ram_free", 26.4789}, {"ram_total", 16777216}}},
		{Name: "disk", Tags: []string{"mount:/"}, Stats: []Stat{{"disk_used", 41.2}, {"disk_free", 58.8}, {"disk_inodes", 1.5}}},
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
