package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSourcesChange checks that a change of the sources ends those that are gone, begins the new
// ones and leaves the others alone.
func TestSourcesChange(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "backup.prom"), []byte("backup_age 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(context.Context, string) (net.Conn, error) { return nil, errors.New("no server in this test") }
	h, err := NewHostRelay(relay.Options{Address: "127.0.0.1:1", ID: "web1", Dial: refused}, nil, Sources{Host: new(hoststats.Options), Textfile: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	offers := func(want ...string) {
		t.Helper()
		var names []string
		for _, info := range h.Info() {
			if kind, _, _ := strings.Cut(info.Name, "_"); !slices.Contains(names, kind) {
				names = append(names, kind)
			}
		}
		for _, name := range []string{"cpu", "process", "textfile"} {
			if slices.Contains(names, name) != slices.Contains(want, name) {
				t.Errorf("it offers %q, want %q of them", names, want)
			}
		}
	}
	offers("cpu", "textfile")
	host := h.running["host-stats"]
	if err := h.SetSources(Sources{Host: new(hoststats.Options), Processes: []string{"init"}}); err != nil {
		t.Fatal(err)
	}
	offers("cpu", "process")
	if h.running["host-stats"] != host {
		t.Error("the host's stats have begun again")
	}
	if err := h.SetSources(Sources{}); err != nil {
		t.Fatal(err)
	}
	offers()
	if left := h.Info(); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}
