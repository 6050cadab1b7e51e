package outside

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDir) != "" {
		child() // a process that a test started, to be killed
		return
	}
	goleak.VerifyTestMain(m)
}

// opened is a journal with its clients.
type opened struct {
	*journal.Journal
	*Clients
}

// openOutside opens a journal that lets clients in.
func openOutside(tb testing.TB, dir string, o Options) *opened {
	tb.Helper()
	o.Address, o.User = freeport.Of(tb), "pulse"
	if o.Password == "" {
		o.Password = outsidePassword
	}
	return openWith(tb, dir, o, func(c *Clients) journal.Outside { return c })
}

// openClosed opens a journal that lets nobody in.
func openClosed(tb testing.TB, dir string) *opened {
	tb.Helper()
	return openWith(tb, dir, Options{}, func(c *Clients) journal.Outside { return c })
}

// openWith opens a journal with an Outside that a test wraps around its clients.
func openWith(tb testing.TB, dir string, o Options, around func(*Clients) journal.Outside) *opened {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	if o.Logger == nil {
		o.Logger = log
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := New(ctx, o)
	if err != nil {
		tb.Fatal(err)
	}
	j, err := journal.Open(ctx, journal.Options{Dir: dir, Outside: around(c), Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeJournal(tb, &opened{j, c}) })
	return &opened{j, c}
}

func closeJournal(tb testing.TB, j *opened) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Journal.Close(ctx); err != nil {
		tb.Errorf("closing: %v", err)
	}
}

// sample is an event of three readings.
func sample(relay string, n int) *codec.Event {
	return &codec.Event{Relay: relay, Time: 1795416970017829163 + int64(n), Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"service:web1", "guy"}, Stats: []codec.Stat{{ID: "cpu_used", Value: float64(n)}, {ID: "cpu_idle", Value: 99.75}}},
		{Name: "ram", Tags: []string{"service:web1"}, Stats: []codec.Stat{{ID: "ram_used", Value: 73.5211}}},
	}}
}

func appendN(tb testing.TB, j *opened, relay string, from, n int) (last uint64) {
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

func from1(tb testing.TB, j *opened, seq uint64) *journal.Reader {
	tb.Helper()
	r, err := j.ReadFrom(seq)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// readN reads n records, failing at a gap.
func readN(tb testing.TB, r *journal.Reader, n int) (seqs []uint64) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	for len(seqs) < n {
		recs, err := r.Read(ctx, n-len(seqs))
		if err != nil {
			tb.Fatalf("after %d of %d records: %v", len(seqs), n, err)
		}
		for _, rec := range recs {
			seqs = append(seqs, rec.Seq)
		}
	}
	return seqs
}

// readers returns the names of the consumers of the journal's readers.
func readers(tb testing.TB, j *opened) (names []string) {
	tb.Helper()
	s, err := j.current().JetStream.Stream(tb.Context(), journal.StreamName)
	if err != nil {
		tb.Fatal(err)
	}
	list := s.ConsumerNames(tb.Context())
	for name := range list.Name() {
		if strings.HasPrefix(name, journal.ReaderConsumers) {
			names = append(names, name)
		}
	}
	if list.Err() != nil || len(names) == 0 {
		tb.Fatalf("%v, %v", names, list.Err())
	}
	return names
}

// value returns the value of a counter or gauge.
func value(tb testing.TB, c prometheus.Metric) float64 {
	tb.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		tb.Fatal(err)
	}
	return m.Counter.GetValue()
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
