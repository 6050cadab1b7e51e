package embedded_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// TestSeriesLeaveWithTheirShard: series whose only shard expires leave the index, which limits and
// lists them, and all of them are there again when their hosts come back.
func TestSeriesLeaveWithTheirShard(t *testing.T) {
	s := open(t, embedded.Options{Dir: t.TempDir()})
	exec(t, s, createRaw)
	now := time.Now().Truncate(time.Hour)
	const hosts = 20
	for i := range hosts {
		write(t, s, points(fmt.Sprint("gone", i), now.Add(-5*time.Hour), 2))
	}
	write(t, s, points("stays", now.Add(-5*time.Hour), 2))
	write(t, s, points("stays", now, 2))
	want := func(when string, n int) {
		t.Helper()
		if listed := series(t, s); listed != n {
			t.Errorf("%s, %d series are listed, want %d", when, listed, n)
		}
	}
	want("before", hosts+1)
	if err := s.Flush(t.Context(), influx.PolicyRaw); err != nil {
		t.Fatal(err)
	}
	exec(t, s, "DROP SHARD 1")
	want("when the shard is gone", 1)
	for i := range hosts {
		write(t, s, points(fmt.Sprint("gone", i), now, 2))
	}
	want("when the hosts are back", hosts+1)
	if n := count(t, s); n != 2*(hosts+1) {
		t.Errorf("%d points, want %d", n, 2*(hosts+1))
	}
}

// TestSeriesComeBackWhileTheirShardLeaves: hosts that are written to again while their old shard is
// deleted are in the index afterwards.
func TestSeriesComeBackWhileTheirShardLeaves(t *testing.T) {
	s := open(t, embedded.Options{Dir: t.TempDir()})
	exec(t, s, createRaw)
	now := time.Now().Truncate(time.Hour)
	const hosts = 4_000
	all := func(at time.Time) []influx.Point {
		var ps []influx.Point
		for i := range hosts {
			ps = append(ps, points(fmt.Sprint("host", i), at, 1)...)
		}
		return ps
	}
	write(t, s, all(now.Add(-5*time.Hour)))
	if err := s.Flush(t.Context(), influx.PolicyRaw); err != nil {
		t.Fatal(err)
	}
	back := all(now)
	write(t, s, back[:1]) // the new shard is there

	dropped := make(chan error, 1)
	go func() {
		_, err := s.Query(t.Context(), "DROP SHARD 1", nil)
		dropped <- err
	}()
	for chunk := range slices.Chunk(back, 8) {
		write(t, s, chunk)
	}
	if err := <-dropped; err != nil {
		t.Fatal(err)
	}
	if listed := series(t, s); listed != hosts {
		t.Errorf("%d series are listed, want %d", listed, hosts)
	}
}

// series counts the series in the index.
func series(t *testing.T, s *embedded.Store) int {
	t.Helper()
	rows, err := s.Query(t.Context(), `SHOW SERIES ON "statistics"`, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rows {
		n += len(r.Values)
	}
	return n
}
