package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/influxdata/influxdb/tsdb/engine/tsm1"

	"github.com/nanopack/pulse/internal/command"
)

// onlyOldLog replaces InfluxDB's files by a log in the form of an earlier release.
func onlyOldLog(t *testing.T, dir string) {
	t.Helper()
	remove("influx")(t, dir)
	log := tsm1.NewWAL(filepath.Join(dir, "influx", "wal", "statistics", "one_day", "1"))
	if err := log.Open(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.WriteMulti(map[string][]tsm1.Value{"cpu,host=a#!~#cpu": {tsm1.NewValue(1, 1.5)}}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCheckCommand runs `pulse check` on whole and on damaged data dirs. The command names the
// damaged files and changes nothing.
func TestCheckCommand(t *testing.T) {
	whole := filledDataDir(t, "-a", "1")
	const blocks = "journal/jetstream/PULSE/streams/PULSE/msgs/*.blk"
	for _, test := range []struct {
		name   string
		damage damage
		code   int
		want   []string
	}{
		{"nothing", func(*testing.T, string) {}, command.ExitOK, []string{"pulse.db  whole", "journal   whole: 1 block of events", "influx    whole: "}},
		{"a bit in a block", flip(blocks), command.ExitFailure, []string{"pulse.db  whole", "journal   damaged", "1.blk", "events ", "not what was written"}},
		{"a bit in each file of points", flip("influx/data/statistics/*/*/*.tsm"), command.ExitFailure, []string{"journal   whole", "influx    damaged", ".tsm", "raw from "}},
		{"a pipe for a block", replaceByPipe(blocks), command.ExitFailure, []string{"journal   damaged", "1.blk", "not a plain file"}},
		{"no journal", remove("journal"), command.ExitOK, []string{"journal   empty"}},
		{"the log of an earlier release, and nothing else", onlyOldLog, command.ExitOK, []string{"influx    whole: 1 log file of an earlier release, "}},
		{"no influx", remove("influx"), command.ExitOK, []string{"influx    empty: with --influx-address embedded the next start writes it again"}},
		{"no data dir", remove("."), command.ExitFailure, []string{"--data-dir"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			test.damage(t, dir)
			var before map[string]string
			if test.name != "no data dir" {
				before = contents(t, dir)
			}
			var out bytes.Buffer
			if code := runCheck(t.Context(), []string{"--data-dir", dir}, &out, &out); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out.String())
				}
			}
			if before != nil {
				if after := contents(t, dir); !maps.Equal(before, after) {
					t.Errorf("files changed: %s", difference(after, before))
				}
			}
		})
	}
}
