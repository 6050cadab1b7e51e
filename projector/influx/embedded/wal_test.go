package embedded_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/projector/influx"
	"github.com/nanopack/pulse/projector/influx/embedded"
)

// dirWithLog makes a directory as an earlier release leaves it: 10 points in files, and 10 in the
// log of the same shard. segment is the path of the log's only segment.
func dirWithLog(t *testing.T, from time.Time) (dir, segment string) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, embedded.Options{Dir: dir})
	exec(t, s, createRaw)
	write(t, s, points("a", from, 10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "manifest")); err != nil {
		t.Fatal(err)
	}
	shards, err := filepath.Glob(filepath.Join(dir, "data", "statistics", "one_day", "*"))
	if err != nil || len(shards) != 1 {
		t.Fatalf("%v, %v", shards, err)
	}
	at := filepath.Join(dir, "wal", "statistics", "one_day", filepath.Base(shards[0]))
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	wal := tsm1.NewWAL(at)
	if err := wal.Open(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		value := tsm1.NewFloatValue(from.Add(time.Duration(i)*time.Second).UnixNano(), float64(i))
		if _, err := wal.WriteMulti(map[string][]tsm1.Value{"cpu,host=log#!~#cpu": {value}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := wal.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(at, "*.wal"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("%v, %v", segments, err)
	}
	return dir, segments[0]
}

// Open takes over the log that an earlier release has left. It keeps the unreadable end of the log,
// and reports a damage with the times that the lost points may have.
func TestLogOfAnEarlierRelease(t *testing.T) {
	from := time.Now().Truncate(time.Hour).Add(-90 * time.Minute)
	for name, tail := range map[string][]byte{
		"whole":                nil,
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
			dir, segment := dirWithLog(t, from)
			log, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, tail...)
			if err := os.WriteFile(segment, log, 0o600); err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				s := open(t, embedded.Options{Dir: dir})
				if n := count(t, s); n != 20 {
					t.Errorf("round %d: %d points are there, 20 were written", round, n)
				}
				// An earlier release has no manifest. That is a damage, too, and everything is
				// projected again.
				damages := slices.DeleteFunc(s.Damages(), func(d influx.Damage) bool { return d.What == "manifest" && d.From.IsZero() })
				if (len(damages) == 1) != (tail != nil) {
					t.Fatalf("round %d: damages: %+v", round, damages)
				}
				for _, d := range damages {
					if kept, err := os.ReadFile(filepath.Join(dir, d.Aside)); err != nil || !bytes.Equal(kept, log) {
						t.Errorf("%d bytes were kept of %d, %v", len(kept), len(log), err)
					}
					if d.Policy != influx.PolicyRaw || d.From.After(from) || d.To.Before(from.Add(10*time.Second)) {
						t.Errorf("told: %+v", d)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "wal")); !os.IsNotExist(err) {
				t.Errorf("the log is still there: %v", err)
			}
		})
	}
}
