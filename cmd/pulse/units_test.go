package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

// TestUnitsOfAHost follows the units of a host's stats from the agent to /keys?detail=1, over a
// restart. They make no tag, and a relay of an older release is as it ever was.
func TestUnitsOfAHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "--host-stats", "-p", "1")
	old, err := net.Dial("tcp", s.RelayAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := old.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(old, "id old\nadd queue:service:web\n"); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(old); lines.Scan(); {
		if lines.Text() == "get queue" {
			if _, err := io.WriteString(old, "got queue:7\n"); err != nil {
				t.Fatal(err)
			}
			break
		}
	}

	check := func() error {
		var keys []struct{ Stat, Unit string }
		if err := s.Get("/keys?detail=1", &keys); err != nil {
			return err
		}
		has := map[string]bool{}
		for _, k := range keys {
			has[k.Stat] = true
			if want := hoststats.Unit(k.Stat); k.Unit != want {
				return fmt.Errorf("%s is in %q, want %q", k.Stat, k.Unit, want)
			}
		}
		for _, stat := range []string{"cpu_used", "ram_free", "load_1", "queue"} {
			if !has[stat] {
				return fmt.Errorf("there is no %s in %v", stat, keys)
			}
		}
		return nil
	}
	await(t, s, "units", time.Minute, check)
	var tags []string
	if err := s.Get("/tags", &tags); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(tags, func(tag string) bool { return strings.Contains(tag, "unit") }) {
		t.Errorf("the tags are %q", tags)
	}
	// The next server has no relay that says units: what it shows is what was stored.
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, dir, "--influx-address", "embedded")
	await(t, s, "units after a restart", time.Minute, check)
}
