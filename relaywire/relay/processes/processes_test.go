package processes

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func collector(t *testing.T, s *Source, name string) relay.Collector {
	t.Helper()
	for _, g := range s.Look() {
		for _, c := range g.Collectors {
			if c.Name == name {
				return c.New()
			}
		}
	}
	t.Fatalf("no collector %s", name)
	return nil
}

func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var procs []process
		var err error
		s := newSource(Options{Patterns: []string{"nginx", "post*"}}, func(source.Globs) ([]process, error) { return procs, err })
		nginx, post := collector(t, s, "process_nginx"), collector(t, s, "process_post*")
		poll := func(c relay.Collector, want map[string]float64) {
			t.Helper()
			if got := c.Collect(); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
		pass := func() {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		poll(nginx, map[string]float64{"process_count": 0, "process_rss": 0}) // no time has passed
		pass()
		poll(nginx, map[string]float64{"process_count": 0, "process_rss": 0, "process_cpu": 0})
		procs = []process{
			{identity{1, 1}, "nginx", time.Second, 1000}, {identity{2, 2}, "nginx", time.Hour, 500}, {identity{3, 3}, "postgres", 0, 7},
			{identity{4, 4}, "nginx2", 0, 7},
		}
		pass()
		// One second of the first; the second cannot have used more than the ten seconds.
		poll(nginx, map[string]float64{"process_count": 2, "process_rss": 1500, "process_cpu": 110})
		poll(nginx, map[string]float64{"process_count": 2, "process_rss": 1500, "process_cpu": 110}) // the same scan
		poll(post, map[string]float64{"process_count": 1, "process_rss": 7, "process_cpu": 0})
		// The first ended, and another process has its number.
		procs = []process{{identity{1, 9}, "nginx", 500 * time.Millisecond, 1000}, {identity{2, 2}, "nginx", time.Hour + 123456*time.Microsecond, 500}}
		pass()
		poll(nginx, map[string]float64{"process_count": 2, "process_rss": 1500, "process_cpu": 6.23})
		err = errors.New("broken")
		pass()
		poll(nginx, nil)
		if n := s.Rejected()["unreadable"]; n != 1 {
			t.Error(n)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, bad := range [][]string{{""}, {"a,b"}, {"/bin/sh"}, {"a", "a"}, {strings.Repeat("a", 101)}} {
		if _, err := New(Options{Patterns: bad}); err == nil {
			t.Error(bad)
		}
	}
	s, err := New(Options{Patterns: []string{"a-b", "a:b", "é*"}})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range s.Look()[0].Collectors {
		if !relaywire.ValidName(c.Name) || !relaywire.ValidTag(c.Tags[0]) || names[c.Name] {
			t.Errorf("%q %q", c.Name, c.Tags)
		}
		names[c.Name] = true
	}
	for stat, want := range map[string]string{"process_count": "count", "process_cpu": "percent", "process_rss": "bytes", "x": ""} {
		if got := Unit(stat); got != want {
			t.Errorf("%s: %q", stat, got)
		}
	}
}

// TestThisMachine finds a process of this machine, also by a name that Linux cuts.
func TestThisMachine(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), "a-program-with-a-long-name")
	if err := os.Symlink(sleep, long); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(long, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	wanted := source.Globs{"a-program-with-a-long-name", filepath.Base(os.Args[0])}
	found := map[string]bool{}
	for len(found) < 2 { // Start returns at exec, the name may come a little later
		all, err := (&lister{}).list(wanted)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.rss > 0 {
				found[p.name] = true
			}
		}
	}
}

func BenchmarkList(b *testing.B) {
	l := &lister{}
	for b.Loop() {
		if _, err := l.list(source.Globs{"nginx", "postgres*"}); err != nil {
			b.Fatal(err)
		}
	}
}
