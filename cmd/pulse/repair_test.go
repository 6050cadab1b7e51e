package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/query"
	"github.com/nanopack/pulse/relaywire/relaytest"
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

// TestDamagedInflux damages the files of the embedded InfluxDB in every way. After the start, raw
// points and aggregates equal a recount of the journal, and /status names the damage.
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
				if !d.LostFrom.IsZero() && !strings.HasPrefix(d.What, "m") { // its times are unknown
					t.Errorf("said to be lost: %+v", d)
				}
			}
			stopProjected(t, s)
			compareWithInflux(t, dir, want)
		})
	}
}

// TestInfluxGoneBeforeAStop stops a server before it has checked what InfluxDB holds. The stop
// checks it first and projects the journal again.
func TestInfluxGoneBeforeAStop(t *testing.T) {
	dir := filledDataDir(t, "-a", "1")
	want := recount(t, dir)
	remove("influx")(t, dir)
	config, err := ParseConfig([]string{"-s", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", "", "--influx-address", "embedded",
		"-a", "1", "--data-dir", dir})
	if err != nil {
		t.Fatal(err)
	}
	app, err := NewApp(t.Context(), config, command.NewLogger(t.Output(), config.LogLevel))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(app.startProjections(t.Context()), app.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	compareWithInflux(t, dir, want)
}

// TestInfluxGoneBeyondTheJournal removes influx/ after the journal has dropped its first events.
// The events that the journal still holds are projected again, and the first window only in part.
// The rest is reported as lost, once.
func TestInfluxGoneBeyondTheJournal(t *testing.T) {
	dir := filledDataDir(t, "-a", "1")
	between := time.Now()
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 20})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 40)
	stopProjected(t, s)
	first := trimJournal(t, dir, between)
	want := recount(t, dir)
	remove("influx")(t, dir)

	var told []query.Damage
	for range 2 { // a later start reports it too
		s = startServer(t, dir, "--influx-address", "embedded", "-a", "1", "-l", "WARN")
		if err := s.Await(t.Context(), func() (bool, error) {
			var status query.Status
			err := s.Get("/status", &status)
			return len(status.Influx.Damages) > 1, err
		}); err != nil {
			t.Fatal(err)
		}
		told = awaitRepair(t, s.Get).Influx.Damages
		if len(told) != 2 || told[0].Projection == told[1].Projection {
			t.Fatalf("told: %+v", told)
		}
		for _, d := range told {
			if !d.LostTo.Equal(first) || !d.LostFrom.Before(first) || d.LostFrom.Before(between.Add(-10*time.Minute)) || d.Replay != "" {
				t.Errorf("%+v; the journal begins at %v", d, first)
			}
		}
		stopProjected(t, s)
	}
	compareWithInflux(t, dir, want)
}

// trimJournal has the journal of a stopped server drop its events before a time. It returns the
// time at which the first remaining event was stored.
func trimJournal(t *testing.T, dir string, at time.Time) time.Time {
	t.Helper()
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	o := journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(state.DB), Retention: time.Since(at)}
	for deadline := time.Now().Add(time.Minute); ; {
		j, err := journal.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := j.State(t.Context())
		if err := errors.Join(err, j.Close(context.Background())); err != nil {
			t.Fatal(err)
		}
		if o.Retention == 0 { // it drops nothing more
			return s.FirstTime
		}
		if s.FirstSeq > 1 && s.Messages > 0 {
			o.Retention = 0
		} else if time.Now().After(deadline) {
			t.Fatalf("%+v", s)
		}
	}
}

// awaitRepair waits until the damaged data is projected again.
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
		var job past.Job
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
