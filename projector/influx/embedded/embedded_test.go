package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
	"github.com/nanopack/pulse/projector/influx/influxtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
	}
	goleak.VerifyTestMain(m)
}

func open(tb testing.TB, o embedded.Options) *embedded.Store {
	tb.Helper()
	s, err := embedded.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

func exec(tb testing.TB, s influx.Store, statements ...string) {
	tb.Helper()
	for _, statement := range statements {
		if _, err := s.Query(tb.Context(), statement, nil); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
}

const (
	createRaw        = `CREATE DATABASE "statistics" WITH DURATION 8h REPLICATION 1 NAME "one_day"`
	createAggregates = `CREATE RETENTION POLICY "one_week" ON "statistics" DURATION 1w REPLICATION 1`
)

// points returns n readings, one second apart, the first at from.
func points(host string, from time.Time, n int) []influx.Point {
	series := influx.NewSeries("cpu", influx.Tag{Key: "host", Value: host})
	out := make([]influx.Point, n)
	for i := range out {
		out[i] = influx.Point{Series: series, Fields: []influx.Field{{Key: "cpu", Value: float64(i)}},
			Time: from.Add(time.Duration(i) * time.Second).UnixNano()}
	}
	return out
}

func write(tb testing.TB, s influx.Store, p []influx.Point) {
	tb.Helper()
	if res, err := s.Write(tb.Context(), influx.PolicyRaw, p); err != nil || res != (influx.WriteResult{}) {
		tb.Fatalf("write: %+v, %v", res, err)
	}
}

func count(tb testing.TB, s influx.Store) int {
	tb.Helper()
	rows, err := s.Query(tb.Context(), `SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if len(rows) == 0 {
		return 0
	}
	return int(rows[0].Values[0][1].(float64))
}

func TestSuite(t *testing.T) {
	influxtest.RunSuite(t, func(t *testing.T) influx.Store {
		return open(t, embedded.Options{Dir: t.TempDir()})
	})
}

func TestOpenErrors(t *testing.T) {
	if _, err := embedded.Open(embedded.Options{}); err == nil || !strings.Contains(err.Error(), "Dir") {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Open(embedded.Options{Dir: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: %v", err)
	}
}

func TestDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "influx")
	open(t, embedded.Options{Dir: dir})
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	from := time.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	for round := range 3 {
		s, err := embedded.Open(embedded.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			exec(t, s, createRaw, createAggregates)
		}
		if n := count(t, s); n != round*100 {
			t.Errorf("round %d begins with %d points", round, n)
		}
		write(t, s, points(fmt.Sprint("h", round), from, 100))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two stores in one process share nothing.
func TestTwoInOneProcess(t *testing.T) {
	a, b := open(t, embedded.Options{Dir: t.TempDir()}), open(t, embedded.Options{Dir: t.TempDir()})
	exec(t, a, createRaw)
	exec(t, b, createRaw)
	shared := points("h", time.Now().Add(-time.Hour), 10)
	write(t, a, shared)
	write(t, b, shared[:3])
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, b); n != 3 {
		t.Errorf("%d points in the second store", n)
	}
}

// Expired data is deleted, because the retention service runs.
func TestRetention(t *testing.T) {
	s := open(t, embedded.Options{Dir: t.TempDir(), RetentionCheck: 20 * time.Millisecond})
	exec(t, s, createRaw)
	now := time.Now().Truncate(time.Hour)
	write(t, s, points("old", now.Add(-5*time.Hour), 10))
	write(t, s, points("new", now, 10))
	if n := count(t, s); n != 20 {
		t.Fatalf("%d points before", n)
	}
	exec(t, s, `ALTER RETENTION POLICY "one_day" ON "statistics" DURATION 2h`)
	deadline := time.Now().Add(20 * time.Second)
	for count(t, s) != 10 {
		if time.Now().After(deadline) {
			t.Fatalf("%d points are left, expected the 10 new ones", count(t, s))
		}
		runtime.Gosched()
	}
	if res, err := s.Write(t.Context(), influx.PolicyRaw, points("old", now.Add(-5*time.Hour), 10)); err != nil || res.Dropped != 10 {
		t.Errorf("writing them again: %+v, %v", res, err)
	}
}

// slow returns a statement that takes seconds, so that it is certainly still running when the test
// acts.
func slow(t *testing.T, s influx.Store) (statement string) {
	t.Helper()
	from := time.Now().Truncate(time.Hour).Add(-2 * time.Hour)
	write(t, s, points("h", from, 7000))
	sources := strings.TrimSuffix(strings.Repeat(`(SELECT "cpu" FROM "statistics"."one_day"."cpu"), `, 200), ", ")
	return `SELECT stddev("cpu") FROM ` + sources + ` GROUP BY time(1s) fill(none)`
}

// Queries beyond MaxQueries wait, until their context ends.
func TestQueriesTakeTurns(t *testing.T) {
	s := open(t, embedded.Options{Dir: t.TempDir(), MaxQueries: 1})
	exec(t, s, createRaw)
	statement := slow(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := s.Query(ctx, statement, nil); ended <- err }()
	deadline := time.Now().Add(20 * time.Second)
	for {
		// This query times out as soon as the slow one has begun.
		soon, stop := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := s.Query(soon, "SHOW DATABASES", nil)
		stop()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("no query had to wait: %v", err)
		}
	}
	write(t, s, points("other", time.Now().Add(-time.Hour), 10)) // writes do not wait
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the slow query: %v", err)
	}
	exec(t, s, "SHOW DATABASES") // the slow query no longer holds its turn
}

func TestQueryTimeout(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Open(embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s, createRaw)
	statement := slow(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, embedded.Options{Dir: dir, QueryTimeout: 50 * time.Millisecond})
	if _, err := s.Query(t.Context(), statement, nil); !errors.Is(err, context.DeadlineExceeded) || influx.KindOf(err) != influx.Temporary {
		t.Errorf("error %v", err)
	}
}

// Close under load: calls end with a result or ErrClosed, and every acknowledged point is there
// afterwards.
func TestCloseUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Open(embedded.Options{Dir: dir, MaxQueries: 2})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s, createRaw)
	statement := slow(t, s)
	from := time.Now().Truncate(time.Hour).Add(-time.Hour)
	var mu sync.Mutex
	acked := 7000
	first := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				res, err := s.Write(context.Background(), influx.PolicyRaw, points(fmt.Sprint("w", w, "-", i), from, 20))
				if err != nil {
					if !errors.Is(err, influx.ErrClosed) {
						t.Errorf("write: %+v, %v", res, err)
					}
					return
				}
				mu.Lock()
				acked += 20
				mu.Unlock()
				once.Do(func() { close(first) })
			}
		})
		wg.Go(func() {
			if _, err := s.Query(context.Background(), statement, nil); !errors.Is(err, influx.ErrClosed) {
				t.Errorf("query: %v", err)
			}
		})
	}
	<-first
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	wg.Wait()
	if n := count(t, open(t, embedded.Options{Dir: dir})); n != acked {
		t.Errorf("%d points are there, %d were acknowledged", n, acked)
	}
}

// The engine's info messages are logged as debug, its warnings as warnings.
func TestLog(t *testing.T) {
	var buf bytes.Buffer
	open(t, embedded.Options{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&buf, nil))}).Close()
	if buf.Len() != 0 {
		t.Errorf("logged at info:\n%s", &buf)
	}
	open(t, embedded.Options{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Close()
	if !strings.Contains(buf.String(), "engine=influxdb") || !strings.Contains(buf.String(), "service=retention") {
		t.Errorf("logged at debug:\n%s", &buf)
	}
}

// The engine keeps nothing of the memory in which the keys of a write were, because the next write
// reuses it.
func TestKeysAreReused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, embedded.Options{Dir: dir})
	exec(t, s, createRaw)
	at := time.Now().Add(-time.Hour).UnixNano()
	for batch := range 10 {
		var points []influx.Point
		for i := range 10 {
			points = append(points, influx.Point{Series: influx.NewSeries("a b,", influx.Tag{Key: "host", Value: fmt.Sprint(batch, i)}),
				Fields: []influx.Field{{Key: "f", Value: float64(10*batch + i)}}, Time: at})
		}
		write(t, s, points)
	}
	for range 2 {
		for i := range 100 {
			rows, err := s.Query(t.Context(), `SELECT f FROM one_day."a b," WHERE host = $host`, map[string]any{"host": fmt.Sprint(i/10, i%10)})
			if err != nil || len(rows) != 1 || len(rows[0].Values) != 1 || rows[0].Values[0][1] != float64(i) {
				t.Fatalf("series %d: %v, %v", i, rows, err)
			}
		}
		if rows, err := s.Query(t.Context(), `SHOW SERIES`, nil); err != nil || len(rows) != 1 || len(rows[0].Values) != 100 {
			t.Fatalf("%v, %v", rows, err)
		}
		s.Close()
		s = open(t, embedded.Options{Dir: dir})
	}
}

func BenchmarkWrite(b *testing.B) {
	influxtest.BenchmarkWrite(b, open(b, embedded.Options{Dir: b.TempDir()}))
}

// Beyond the engine's limit on the values of a tag new series are refused and counted, and Limit is
// set. Known series are written.
func TestLimits(t *testing.T) {
	const limit, beyond = 200, 50
	o := embedded.Options{Dir: t.TempDir()}
	o.SetMaxValues(limit)
	s := open(t, o)
	exec(t, s, createRaw)
	at := time.Now().Add(-time.Hour).UnixNano()
	many := make([]influx.Point, limit+beyond)
	for i := range many {
		many[i] = influx.Point{Series: influx.NewSeries("cpu", influx.Tag{Key: "host", Value: fmt.Sprint("h", i)}),
			Fields: []influx.Field{{Key: "cpu", Value: 1}}, Time: at}
	}
	write(t, s, many[:limit]) // the engine checks the limit once a batch
	res, err := s.Write(t.Context(), influx.PolicyRaw, many[limit-10:])
	if err != nil || res.Rejected != beyond || !res.Limit || !strings.Contains(res.Reason, "max-values-per-tag") {
		t.Errorf("%+v, %v, expected %d rejected by the limit", res, err, beyond)
	}
	if n := count(t, s); n != limit {
		t.Errorf("%d points, expected %d", n, limit)
	}
}
