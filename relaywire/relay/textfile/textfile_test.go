package textfile

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collected returns what a source offers now, a line a collector.
func collected(t *testing.T, groups []source.Group) (lines []string) {
	t.Helper()
	names := map[string]bool{}
	for _, g := range groups {
		if g.Err != nil {
			t.Fatal(g.Err)
		}
		for _, c := range g.Collectors {
			if names[c.Name] || !relaywire.ValidName(c.Name) || len(c.Tags) > relaywire.MaxTags {
				t.Errorf("collector %q %q", c.Name, c.Tags)
			}
			names[c.Name] = true
			for _, tag := range c.Tags {
				if !relaywire.ValidTag(tag) {
					t.Errorf("tag %q", tag)
				}
			}
			values := c.New().Collect()
			delete(values, "textfile_age")
			line := c.Name + " {" + strings.Join(c.Tags, ",") + "}"
			for _, stat := range slices.Sorted(maps.Keys(values)) {
				if !relaywire.ValidName(stat) {
					t.Errorf("stat %q", stat)
				}
				line += fmt.Sprintf(" %s:%v", stat, values[stat])
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// still runs f while the clock stands, so that no poll loses patience with a slow machine.
func still(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRealFiles: what Debian's prometheus-node-exporter-collectors write, and what node_exporter's
// own tests have, gives the collectors of the golden file.
func TestRealFiles(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			still(t, func(t *testing.T) {
				s := start(t, Options{Dir: dir})
				got := collected(t, s.Look())
				for _, reason := range slices.Sorted(maps.Keys(s.Rejected())) {
					got = append(got, fmt.Sprintf("rejected %s: %d", reason, s.Rejected()[reason]))
				}
				golden := filepath.Join(dir, "golden.txt")
				text := strings.Join(got, "\n") + "\n"
				if os.Getenv("UPDATE_GOLDEN") != "" {
					write(t, dir, "golden.txt", text)
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if text != string(want) {
					t.Errorf("%s has now\n%s", golden, text)
				}
			})
		})
	}
}

func TestChangesOfFiles(t *testing.T) {
	still(t, func(t *testing.T) {
		dir := t.TempDir()
		s := start(t, Options{Dir: dir})
		look := func() []string {
			time.Sleep(reread)
			return collected(t, s.Look())
		}
		expect(t, look())
		write(t, dir, "a.prom", "up 1\nx{b=\"c\"} 5\n")
		write(t, dir, "b.prom.tmp", "y 1\n")
		expect(t, look(), "textfile_a {} up:1", "textfile_a_c {b:c} x:5", "textfile_age_a {file:a.prom} textfile_rejected:0")
		write(t, dir, "a.prom", "up 12\n")
		expect(t, look(), "textfile_a {} up:12", "textfile_age_a {file:a.prom} textfile_rejected:0")
		// A second file has a series of the first.
		write(t, dir, "b.prom", "up 7\nz 1\n")
		expect(t, look(), "textfile_a {} up:12", "textfile_age_a {file:a.prom} textfile_rejected:0",
			"textfile_b {} z:1", "textfile_age_b {file:b.prom} textfile_rejected:1")
		look()
		if n := s.Rejected()["duplicate"]; n != 1 {
			t.Errorf("%d duplicates", n)
		}
		if err := os.Remove(filepath.Join(dir, "a.prom")); err != nil {
			t.Fatal(err)
		}
		expect(t, look(), "textfile_b {} up:7 z:1", "textfile_age_b {file:b.prom} textfile_rejected:0")
	})
}

// TestCollectorOfAFile: a collector has the newest values of its file, and none when it is gone.
func TestCollectorOfAFile(t *testing.T) {
	still(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "a.prom", "up 1\n")
		written := time.Now().Add(-3 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "a.prom"), written, written); err != nil {
			t.Fatal(err)
		}
		all := start(t, Options{Dir: dir}).Look()[0].Collectors
		up, age := all[0].New(), all[1].New()
		if got := up.Collect()["up"]; got != 1 {
			t.Error(got)
		}
		if got := age.Collect()["textfile_age"]; got != 3*60*60 {
			t.Error("age", got)
		}
		up.Collect()["up"] = 5 // the map belongs to the caller
		if got := up.Collect()["up"]; got != 1 {
			t.Error(got)
		}
		write(t, dir, "a.prom", "up 22\n")
		time.Sleep(reread)
		if got := up.Collect()["up"]; got != 22 {
			t.Error(got)
		}
		if err := os.Remove(filepath.Join(dir, "a.prom")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reread)
		if got := up.Collect(); got != nil {
			t.Error(got)
		}
	})
}

// TestNonsense: every line that makes no sense is counted by reason, and costs the others nothing.
func TestNonsense(t *testing.T) {
	still(t, func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir, "a.prom", "good 1\nbad\nbad x\nnan NaN\nold 1 1395066363000\ngood 2\n_connected 1\nlast 12")
		write(t, dir, "huge.prom", strings.Repeat("x", 2000))
		if err := os.Mkdir(filepath.Join(dir, "dir.prom"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("nowhere", filepath.Join(dir, "gone.prom")); err != nil {
			t.Fatal(err)
		}
		s := start(t, Options{Dir: dir, MaxBytes: 1000})
		expect(t, collected(t, s.Look()), "textfile_a {} good:1", "textfile_age_a {file:a.prom} textfile_rejected:7")
		want := map[string]uint64{"syntax": 1, "not a number": 1, "not finite": 1, "timestamp": 1, "duplicate": 1, "name": 1, "unfinished line": 1,
			tooLarge: 1, notFile: 1, unreadable: 1}
		if got := s.Rejected(); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// TestMillionSeries: the number of series is bounded over all files.
func TestMillionSeries(t *testing.T) {
	still(t, func(t *testing.T) {
		dir := t.TempDir()
		var b strings.Builder
		for i := range 100_000 {
			fmt.Fprintf(&b, "x{i=\"%d\"} 1\n", i)
		}
		write(t, dir, "a.prom", b.String())
		write(t, dir, "b.prom", "y 1\n")
		s := start(t, Options{Dir: dir, MaxSeries: 100})
		if got := collected(t, s.Look()); len(got) != 102 {
			t.Errorf("%d collectors", len(got))
		}
		if n := s.Rejected()["too many series"]; n != 100_000-100+1 {
			t.Error(n)
		}
	})
}

func TestDirectoryThatIsMissing(t *testing.T) {
	still(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		s := start(t, Options{Dir: dir})
		for range 3 {
			if g := s.Look(); g[0].Err == nil {
				t.Error(g)
			}
			time.Sleep(reread)
		}
		if n := s.Rejected()[unreadable]; n != 1 {
			t.Error(n)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "a.prom", "up 1\n")
		if got := collected(t, s.Look()); len(got) != 2 {
			t.Error(got)
		}
	})
	if _, err := New(Options{}); err == nil {
		t.Error("no directory is taken")
	}
}

func TestUnits(t *testing.T) {
	for stat, want := range map[string]string{"textfile_age": "seconds", "x_bytes_total": "bytes", "x_total": "count", "x_seconds_sum": "seconds",
		"x_seconds_bucket": "count", "x_seconds_count": "count", "x_celsius": "celsius", "x": ""} {
		if got := Unit(stat); got != want {
			t.Errorf("%s: %q, want %q", stat, got, want)
		}
	}
}

// FuzzDirectory: whatever two files hold, what is offered can be sent.
func FuzzDirectory(f *testing.F) {
	f.Add("a{b=\"c\"} 1\n", "a{b=\"c\"} 2\nd 5\n")
	f.Add("{\"a-b,c:d\",\"x,y\"=\" ,\\n\"} 1\n", "a{host=\"x\",b=\"\"} 1 5\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		still(t, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a,b-c.prom", a)
			write(t, dir, "a.prom", b)
			collected(t, start(t, Options{Dir: dir, MaxSeries: 20}).Look())
		})
	})
}
