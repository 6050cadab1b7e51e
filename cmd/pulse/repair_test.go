package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/query"
)

// flip flips one bit in the middle of the files.
func flip(pattern string) damage {
	return each(pattern, func(path string) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		content[len(content)/2] ^= 4
		return os.WriteFile(path, content, 0o600)
	})
}

// TestDamagedInflux damages the files of the embedded InfluxDB in every way: after
// the start raw points and aggregates equal a recount of the journal, and what
// was damaged is told.
func TestDamagedInflux(t *testing.T) {
	whole := filledDataDir(t, "-a", "1")
	want := recount(t, whole)
	for _, test := range []struct {
		name   string
		damage damage
		told   string // in /status
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a bit in each file of points", flip("influx/data/statistics/*/*/*.tsm"), "not what was written"},
		{"files of points cut", cutFile("influx/data/statistics/*/*/*.tsm"), "bytes instead of"},
		{"raw points gone", remove("influx/data/statistics/one_day/*/*.tsm"), "it is gone"},
		{"all data gone", remove("influx/data"), "it is gone"},
		{"a policy's data gone", remove("influx/data/statistics/one_week"), "it is gone"},
		{"schema noise", overwrite("influx/meta/meta.db", noise(4096)), "meta/meta.db"},
		{"a bit in the schema", flip("influx/meta/meta.db"), "meta/meta.db"},
		{"schema empty", overwrite("influx/meta/meta.db", nil), "meta/meta.db"},
		{"schema gone", remove("influx/meta/meta.db"), "meta/meta.db"},
		{"schema and data gone", func(t *testing.T, dir string) {
			remove("influx/meta")(t, dir)
			remove("influx/data")(t, dir)
		}, "it is gone"},
		{"series file noise", overwrite("influx/data/statistics/_series/00/0000", noise(4<<20)), ""},
		{"the schema is a pipe", replaceByPipe("influx/meta/meta.db"), "meta/meta.db"},
		{"files of points are pipes", replaceByPipe("influx/data/statistics/*/*/*.tsm"), "bytes instead of"},
		{"the manifest is a pipe", replaceByPipe("influx/manifest"), "manifest"},
		{"manifest gone", remove("influx/manifest"), "there is none"},
		{"manifest and a policy's data gone", func(t *testing.T, dir string) {
			remove("influx/manifest")(t, dir)
			remove("influx/data/statistics/one_day")(t, dir)
		}, "there is none"},
		{"manifest and all data gone", func(t *testing.T, dir string) {
			remove("influx/manifest")(t, dir)
			remove("influx/data")(t, dir)
		}, "there is none"},
		{"manifest noise", overwrite("influx/manifest", noise(1000)), "manifest"},
		{"manifest, schema and data noise", func(t *testing.T, dir string) {
			overwrite("influx/manifest", noise(1000))(t, dir)
			overwrite("influx/meta/meta.db", noise(1000))(t, dir)
			overwrite("influx/data/statistics/*/*/*.tsm", noise(1000))(t, dir)
		}, "meta/meta.db"},
		{"influx gone", remove("influx"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			test.damage(t, dir)
			s := startServer(t, dir, "--influx-address", "embedded", "-a", "1", "-l", "WARN")
			status := awaitRepair(t, s.Get)
			if told := fmt.Sprint(status.Influx.Damages); (test.told == "") != (len(status.Influx.Damages) == 0) || !strings.Contains(told, test.told) {
				t.Errorf("told: %s", told)
			}
			for _, d := range status.Influx.Damages {
				if !d.LostFrom.IsZero() && !strings.HasPrefix(d.What, "m") { // of what is not known which times it held
					t.Errorf("said to be lost: %+v", d)
				}
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			compareWithInflux(t, dir, want)
		})
	}
}

// awaitRepair waits until what was damaged is projected again.
func awaitRepair(t *testing.T, get func(string, any) error) (status query.Status) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := repaired(get, &status)
		if err == nil {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func repaired(get func(string, any) error, status *query.Status) error {
	*status = query.Status{}
	if err := get("/status", status); err != nil {
		return err
	}
	for _, d := range status.Influx.Damages {
		if d.Replay == "" && d.Projection != "" && d.LostFrom.IsZero() {
			return fmt.Errorf("there is no replay of %+v", d)
		}
		var job query.Replay
		if d.Replay == "" {
			continue
		}
		if err := get("/replay/"+d.Replay, &job); err != nil {
			return err
		}
		if !job.Ended() {
			return fmt.Errorf("%+v goes on", job)
		}
	}
	for _, p := range status.Projections {
		if p.Lag+p.Backlog > 0 {
			return errors.New("a projection is behind")
		}
	}
	return nil
}
