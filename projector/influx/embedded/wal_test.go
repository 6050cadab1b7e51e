package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// newestLog is the log segment that the engine writes to.
func newestLog(t *testing.T, dir string) string {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "wal", "statistics", "one_day", "*", "_*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no log segments: %v", err)
	}
	return slices.Max(segments)
}

// What is acknowledged after a crash in the middle of a write is there after
// the next start too.
func TestHalfWrittenLog(t *testing.T) {
	from := time.Now().Add(-time.Minute)
	for name, tail := range map[string][]byte{
		"half a header":        {1, 0},
		"a header":             {1, 0, 0, 1, 0},
		"half an entry":        append([]byte{1, 0, 0, 16, 0}, make([]byte, 1000)...),
		"zeros":                make([]byte, 4096),
		"an unknown entry":     {9, 0, 0, 0, 1, 7},
		"a garbled entry":      {1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff},
		"an impossible length": {1, 0xff, 0xff, 0xff, 0xff, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for round := range 3 {
				s := open(t, embedded.Options{Dir: dir})
				if round == 0 {
					exec(t, s, createRaw)
				}
				write(t, s, points(fmt.Sprint(round), from, 10))
				if n := count(t, s); n != 10*(round+1) {
					t.Errorf("round %d: %d points are there, %d were acknowledged", round, n, 10*(round+1))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(newestLog(t, dir), os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(tail); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A disk that was full is written to again as soon as it has space, by the same
// Store, and what was acknowledged is there, now and after the next start.
func TestDiskFull(t *testing.T) {
	from := time.Now().Add(-time.Hour)
	disk := testtools.SmallDisk(t, 64)
	dir := filepath.Join(disk, "influx")
	s := open(t, embedded.Options{Dir: dir})
	exec(t, s, createRaw)
	acked := 0
	for round := range 3 {
		write(t, s, points(fmt.Sprint("before", round), from, 1000))
		acked += 1000
		free := testtools.FillDisk(t, disk)
		for i := range 3 { // new series, with entries larger than any buffer
			_, err := s.Write(t.Context(), influx.PolicyRaw, points(fmt.Sprint("full", round, i), from, 9000))
			if influx.KindOf(err) != influx.Temporary {
				t.Fatalf("a write to a full disk: %v, want a temporary error", err)
			}
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { // queries go on, but for those that the reopen interrupts
				for range 10 {
					if _, err := s.Query(t.Context(), `SELECT count("cpu") FROM "statistics"."one_day"."cpu"`, nil); err != nil && influx.KindOf(err) != influx.Temporary {
						t.Errorf("a query: %v", err)
					}
				}
			})
		}
		free()
		for i := range 3 {
			write(t, s, points(fmt.Sprint("full", round, i), from, 9000))
			acked += 9000
		}
		wg.Wait()
		if n := count(t, s); n != acked {
			t.Errorf("round %d: %d points are there, %d were acknowledged", round, n, acked)
		}
		if _, err := os.Stat(filepath.Join(dir, "probe")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the probe is still there: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, embedded.Options{Dir: dir})
	if n := count(t, s); n != acked {
		t.Errorf("after another start: %d points are there, %d were acknowledged", n, acked)
	}
}
