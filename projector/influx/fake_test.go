package influx

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/influxdata/influxdb1-client/models"
	"go.etcd.io/bbolt"
)

// cell is one field of one point.
type cell struct {
	policy Policy
	series string
	time   int64
	field  string
}

// fakeStore is an InfluxDB that keeps fields in a map. Its function fields make it fail.
type fakeStore struct {
	mu    sync.Mutex
	cells map[cell]float64
	// before is called with every write. If it returns an error, the write fails, and stored is how
	// many of the points are stored all the same.
	before func(points []Point) (stored int, err error)
	// refuse returns the reason why a point is refused, or "" if it is not refused.
	refuse func(p *Point) string
	// oldest is the time before which points are dropped.
	oldest int64
	// check is called for each field about to be stored.
	check func(c cell, old float64, there bool, v float64)

	writes, points int
	sizes          []int
}

func newFakeStore() *fakeStore { return &fakeStore{cells: make(map[cell]float64), oldest: minTime} }

func (s *fakeStore) Ping(context.Context) (string, error) { return "fake", nil }

func (s *fakeStore) Query(context.Context, string, map[string]any) ([]models.Row, error) {
	return nil, errors.New("the fake answers no queries")
}

func (s *fakeStore) Read(context.Context, ReadRequest, func(ReadResult) error) error {
	return errors.New("the fake answers no queries")
}

func (s *fakeStore) Flush(context.Context, Policy) error { return nil }

func (s *fakeStore) Close() error { return nil }

func (s *fakeStore) Write(ctx context.Context, policy Policy, points []Point) (WriteResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var res WriteResult
	s.writes++
	if err := ctx.Err(); err != nil {
		return res, &Error{Op: "write", Err: err}
	}
	n, failed := len(points), error(nil)
	if s.before != nil {
		if stored, err := s.before(points); err != nil {
			n, failed = min(stored, n), err
		}
	}
	s.sizes = append(s.sizes, n)
	for i := range points[:n] {
		p := &points[i]
		if p.Time < s.oldest {
			res.Dropped++
			continue
		}
		if s.refuse != nil {
			if reason := s.refuse(p); reason != "" {
				res.Refuse(1, reason)
				continue
			}
		}
		s.points++
		for _, f := range CheckFields(p, &res) {
			c := cell{policy, string(p.Series.AppendKey(nil)), p.Time, f.Key}
			old, there := s.cells[c]
			if s.check != nil {
				s.check(c, old, there, f.Value)
			}
			s.cells[c] = f.Value
		}
	}
	if failed != nil {
		return WriteResult{}, failed
	}
	return res, nil
}

func (s *fakeStore) get(policy Policy, series string, at int64, field string) (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.cells[cell{policy, series, at, field}]
	return v, ok
}

func (s *fakeStore) want(tb testing.TB, policy Policy, series string, at int64, field string, value float64) {
	tb.Helper()
	if v, ok := s.get(policy, series, at, field); !ok || v != value {
		tb.Errorf("%s at %d has %s=%v (%t), want %v", series, at, field, v, ok, value)
	}
}

func (s *fakeStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cells)
}

// fail makes every write fail with err.
func fail(err error) func([]Point) (int, error) {
	return func([]Point) (int, error) { return 0, err }
}

var errDown = &Error{Op: "write", Kind: Temporary, Status: 503, Err: errors.New("overloaded")}

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

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint("unexpected: ", err))
	}
	return v
}
