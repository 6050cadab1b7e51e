package projectortest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
)

// OpenDB opens a bbolt database in a temporary directory of the test. The test's end closes it.
func OpenDB(tb testing.TB) *bbolt.DB {
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

// Numbers returns the numbers from first to last.
func Numbers(first, last uint64) []uint64 {
	var s []uint64
	for ; first <= last; first++ {
		s = append(s, first)
	}
	return s
}

// Event returns an event of one reading, with the time t in ns since 1970.
func Event(relay string, t int64) *codec.Event {
	return journaltest.Event(relay, t, "cpu", nil, codec.Stat{ID: "used", Value: float64(t)})
}

// Fill appends n events at once, so that the batches of a waiting runner do not depend on chance.
func Fill(m *Memory, n int) {
	events := make([]*codec.Event, n)
	for i := range events {
		events[i] = Event("a", time.Now().UnixNano())
	}
	m.Append(events...)
}

// NewRunner makes a runner. An error fails the test.
func NewRunner(tb testing.TB, o projector.RunnerOptions) *projector.Runner {
	tb.Helper()
	r, err := projector.NewRunner(o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Start starts a runner. An error fails the test.
func Start(tb testing.TB, r *projector.Runner) {
	tb.Helper()
	if err := r.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// Metric returns the sum of a counter or gauge over its labels. A metric that is not there fails the
// test.
func Metric(tb testing.TB, reg *prometheus.Registry, name string) float64 {
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
