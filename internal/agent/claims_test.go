package agent

import (
	"log/slog"
	"maps"
	"testing"

	"github.com/nanopack/pulse/relaywire/relay"
)

// A series has one collector. What a file says of a stat of this host is left out and counted, even
// if the file came first.
func TestClaims(t *testing.T) {
	c := newClaims(slog.New(slog.DiscardHandler))
	of := func(name string, tags []string, rank int, values map[string]float64) func() map[string]float64 {
		return c.collector(name, tags, rank, relay.CollectorFunc(func() map[string]float64 { return maps.Clone(values) })).Collect
	}
	want := func(what string, got map[string]float64, want map[string]float64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	file := of("textfile_a", []string{"rack:7", "guy"}, 1, map[string]float64{"cpu_used": 7, "size": 1})
	host := of("cpu", []string{"guy", "rack:7"}, 0, map[string]float64{"cpu_used": 100})
	command := of("command_b", []string{"guy", "rack:7", "command:b"}, 2, map[string]float64{"cpu_used": 9})
	point := of("size", []string{"guy", "rack:7"}, 1, map[string]float64{"": 2})
	want("the file, first", file(), map[string]float64{"cpu_used": 7, "size": 1})
	want("the host", host(), map[string]float64{"cpu_used": 100})
	want("the file, then", file(), map[string]float64{"size": 1})
	want("a command, with a tag of its own", command(), map[string]float64{"cpu_used": 9})
	want("another one of the file's kind", point(), map[string]float64{})
	if n := c.rejects.Counts()["stat of another collector"]; n != 2 {
		t.Errorf("%d are counted", n)
	}
	c.release("textfile_a")
	want("the other one, when the file is gone", point(), map[string]float64{"": 2})
}
