package projector_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// openDB opens a bbolt database in a temporary directory of the test.
func openDB(tb testing.TB) *bbolt.DB {
	tb.Helper()
	db, err := bbolt.Open(filepath.Join(tb.TempDir(), "pulse.db"), 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// recorder is a projection that records its calls. Its function fields change its behaviour.
type recorder struct {
	name  string
	apply func(records []journal.Record) error // called before anything is recorded
	tick  func(now time.Time) (uint64, error)
	flush func() (uint64, error)
	// position returns the result of Apply; nil means the last record.
	position func(last uint64) uint64

	mu      sync.Mutex
	seqs    []uint64
	batches []int
	spans   []projector.Origin
}

func (r *recorder) Name() string { return r.name }

func (r *recorder) Begin(_ context.Context, s projector.Origin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, s)
	return nil
}

func (r *recorder) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	if r.apply != nil {
		if err := r.apply(records); err != nil {
			return 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, len(records))
	for i := range records {
		r.seqs = append(r.seqs, records[i].Seq)
	}
	last := records[len(records)-1].Seq
	if r.position != nil {
		return r.position(last), nil
	}
	return last, nil
}

func (r *recorder) Tick(_ context.Context, now time.Time) (uint64, error) {
	if r.tick != nil {
		return r.tick(now)
	}
	return 0, nil
}

func (r *recorder) Flush(context.Context, time.Time) (uint64, error) {
	if r.flush != nil {
		return r.flush()
	}
	return 0, nil
}

func (r *recorder) applied() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]uint64(nil), r.seqs...)
}

func (r *recorder) sizes() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.batches...)
}

// numbers returns the numbers from first to last.
func numbers(first, last uint64) []uint64 {
	var s []uint64
	for ; first <= last; first++ {
		s = append(s, first)
	}
	return s
}

// event returns an event with one reading.
func event(relay string, t int64) *codec.Event {
	return journaltest.Event(relay, t, "cpu", nil, codec.Stat{ID: "used", Value: float64(t)})
}

// newRunner makes a runner and fails the test on an error.
func newRunner(tb testing.TB, o projector.RunnerOptions) *projector.Runner {
	tb.Helper()
	r, err := projector.NewRunner(o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func start(tb testing.TB, r *projector.Runner) {
	tb.Helper()
	if err := r.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// lockedBuffer is a buffer for a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

func logTo(b *lockedBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// metric returns the sum of a metric over its labels.
func metric(tb testing.TB, reg *prometheus.Registry, name string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() == name {
			found = true
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if !found {
		tb.Fatalf("there is no metric %s", name)
	}
	return sum
}

// fill appends n events at once, so that the batches of a waiting runner do not depend on chance.
func fill(m *projectortest.Memory, n int) {
	events := make([]*codec.Event, n)
	for i := range events {
		events[i] = event("a", time.Now().UnixNano())
	}
	m.Append(events...)
}
