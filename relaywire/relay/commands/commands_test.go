//go:build unix

package commands

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/promtext"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// once runs a command once and returns its values, a line a set.
func once(t *testing.T, c Command, o Options) (lines []string, rejected map[string]uint64) {
	t.Helper()
	o.Commands = []Command{c}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := s.commands[0].run()
	for _, set := range r.sets.All() {
		delete(set.Values, "command_seconds")
		line := "{" + strings.Join(set.Tags, ",") + "}"
		for _, stat := range slices.Sorted(maps.Keys(set.Values)) {
			line += fmt.Sprintf(" %s:%v", stat, set.Values[stat])
		}
		lines = append(lines, line)
	}
	return lines, s.Rejected()
}

func TestOutputs(t *testing.T) {
	for line, want := range map[string][]string{
		"echo 5":                              {"{command:x} command_ok:1 x:5"},
		"printf 5.25":                         {"{command:x} command_ok:1 x:5.25"},
		"true":                                {"{command:x} command_ok:1"},
		"echo free 5; echo disk.used 7":       {"{command:x} command_ok:1 disk.used:7 free:5"},
		"echo 'up 1'; echo 'q{a=\"b\"} 2'":    {"{command:x} command_ok:1 up:1", "{command:x,a:b} q:2"},
		"echo 'q{command=\"b\"} 2'":           {"{command:x} command_ok:1 q:2"},
		"echo OK - all is well; echo 5":       {"{command:x} command_ok:1 x:5"},
		"echo 1; echo 2":                      {"{command:x} command_ok:1 x:1"},
		"echo a b; echo a-b 1; echo c, 1":     {"{command:x} command_ok:1"},
		"echo nan; echo 7; echo command_ok 5": {"{command:x} command_ok:1 x:7"},
		"echo 5; exit 3":                      {"{command:x} command_ok:0"},
		"no-such-command":                     {"{command:x} command_ok:0"},
		"yes 'x 1'":                           {"{command:x} command_ok:0"},
	} {
		if got, _ := once(t, Command{Name: "x", Line: line}, Options{MaxBytes: 10_000}); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestReasons(t *testing.T) {
	for line, want := range map[string]map[string]uint64{
		"echo x":                             {"syntax": 1},
		"echo x y":                           {"not a number": 1},
		"echo NaN":                           {"not finite": 1},
		"echo x 1 5":                         {"timestamp": 1},
		"echo x 1; echo x 1":                 {"duplicate": 1},
		"echo _connected 1":                  {"name": 1},
		"echo a 1; echo b 1; echo c 1":       {"too many series": 1},
		"exit 1":                             {badExit: 1},
		"yes":                                {tooMuch: 1},
		"sleep 100":                          {timedOut: 1},
		"trap '' TERM INT; sleep 100 & wait": {timedOut: 1},
		"sleep 100 & echo 5":                 {badExit: 1}, // the output stays open
	} {
		if _, got := once(t, Command{Name: "x", Line: line, Timeout: 3 * time.Second}, Options{MaxSeries: 2}); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

// TestKilledAsAGroup: the processes that a command started end with it.
func TestKilledAsAGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	line := fmt.Sprintf("sleep 1000 & echo $! >> %[1]s; (sleep 1000 & echo $! >> %[1]s; wait) & wait", file)
	once(t, Command{Name: "x", Line: line, Timeout: time.Second}, Options{})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(text))
	if len(pids) != 2 {
		t.Fatalf("%q", text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, word := range pids {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		for alive(pid) {
			if ctx.Err() != nil {
				t.Fatalf("%d lives on", pid)
			}
		}
	}
}

// alive reports whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		return !strings.Contains(string(stat), ") Z ")
	}
	return syscall.Kill(pid, 0) == nil
}

// TestPolls: polls within the interval share a run, and a command that hangs neither holds up a poll
// nor runs twice. Close kills it.
func TestPolls(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "runs")
	s, err := New(Options{Commands: []Command{
		{Name: "quick", Line: "echo run >> " + log + "; echo 'q{a=\"b\"} 2'; echo 5", Interval: time.Hour},
		{Name: "stuck", Line: "sleep 1000", Timeout: time.Hour},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var all []source.Collector
	for len(all) < 3 { // on a slow machine the first run may outlast the first look
		all = nil
		for _, g := range s.Look() {
			all = append(all, g.Collectors...)
		}
	}
	names := map[string]source.Collector{}
	for _, c := range all {
		names[c.Name] = c
	}
	if v := names["command_quick"].New().Collect(); v["quick"] != 5 || v["command_ok"] != 1 {
		t.Error(v)
	}
	if v := names["command_quick_b"].New().Collect(); v["q"] != 2 {
		t.Error(v)
	}
	begun := time.Now()
	for range 100 {
		if v := names["command_stuck"].New().Collect(); v != nil {
			t.Error(v)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Error("100 polls of a stuck command took", took)
	}
	if text, err := os.ReadFile(log); err != nil || string(text) != "run\n" {
		t.Errorf("%q, %v", text, err)
	}
	s.Close()
	for {
		if v := names["command_stuck"].New().Collect(); v != nil {
			if v["command_ok"] != 0 {
				t.Error(v)
			}
			return
		}
	}
}

func TestOptions(t *testing.T) {
	if c, err := Parse(" raid = cat /x | grep a=b "); err != nil || c.Name != "raid" || c.Line != "cat /x | grep a=b" {
		t.Error(c, err)
	}
	for _, text := range []string{"", "x", "x=", "=y", "a-b=c", "a:b=c"} {
		if c, err := Parse(text); err == nil {
			t.Error(text, c)
		}
	}
	for _, two := range [][]Command{{{Name: "a", Line: "b"}, {Name: "a", Line: "c"}}, {{Name: "a", Line: "b", Timeout: -1}}} {
		if _, err := New(Options{Commands: two}); err == nil {
			t.Error(two)
		}
	}
	for stat, want := range map[string]string{"command_ok": "count", "command_seconds": "seconds", "free_bytes": "bytes", "x": ""} {
		if got := Unit(stat); got != want {
			t.Errorf("%s: %q", stat, got)
		}
	}
}

// FuzzOutput: whatever a command writes, what is offered can be sent.
func FuzzOutput(f *testing.F) {
	for _, seed := range []string{"5", "a 5\nb{c=\"d\"} 7\n", "a.b-c,d 5\n", "a\u00e9 5\n", "q{command=\"x\",host=\"y,z\"} 1\n", "_connected 1\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		c := &command{Command: Command{Name: "x"}, o: Options{MaxSeries: 10}, rejects: source.NewRejects(slog.New(slog.DiscardHandler), "commands")}
		sets := promtext.NewSets()
		c.parse(out, sets)
		n := 0
		for _, set := range sets.All() {
			if !relaywire.ValidName(set.CollectorName("command")) || set.Tags[0] != "command:x" || len(set.Tags) > relaywire.MaxTags {
				t.Errorf("%q", set.Tags)
			}
			for _, tag := range set.Tags {
				if !relaywire.ValidTag(tag) {
					t.Errorf("%q", tag)
				}
			}
			for stat := range set.Values {
				n++
				if !relaywire.ValidName(stat) {
					t.Errorf("%q", stat)
				}
			}
		}
		if n > 10 {
			t.Errorf("%d series", n)
		}
	})
}
