package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal/link"
)

// A life is what a hub must have of an edge.
type life struct {
	entries []entry
	// begun is where the edge began another history, and kept the last entry of the one before it; 0 if
	// it did not.
	begun, kept uint64
}

// then is what a hub must have when an edge had the entries before, and now has others. The edge goes on
// after the last entry that both have.
func (l life) then(now []entry) life {
	shared := 0
	for shared < len(l.entries) && shared < len(now) && l.entries[shared].seq == now[shared].seq && l.entries[shared].text == now[shared].text {
		shared++
	}
	if shared == len(l.entries) { // it only went on
		return life{now, l.begun, l.kept}
	}
	next := life{begun: 1, kept: l.entries[len(l.entries)-1].seq}
	if shared > 0 {
		next.begun = now[shared-1].seq + 1
	}
	next.entries = append(append(next.entries, l.entries...), now[shared:]...)
	return next
}

const keepsNumbers = "edge's journal lost its end, and keeps the numbers"

// TestHubHistories sets edges and the hub back, wipes them and begins them again. The hub has every
// event of each history once, and keeps what the edge has lost.
func TestHubHistories(t *testing.T) {
	blocks := filepath.Join("journal", "jetstream", "PULSE", "streams", "PULSE", "msgs")
	for _, test := range []struct {
		name string
		// do plays the case for an edge of which the hub has 100 events of two relays each. It returns
		// what the hub must have of it before the edge goes on.
		do func(t *testing.T, s *sites, e *site) life
	}{
		{"edge restored from a backup, with little to say before it connects", func(t *testing.T, s *sites, e *site) life {
			file := e.backUp()
			e.say(70)
			was := life{entries: e.down()}
			e.wire.cut()
			e.restore(file)
			e.up()
			e.say(10)
			e.wire.mend()
			return was
		}},
		{"edge's data dir copied back, with more to say before it connects", func(t *testing.T, s *sites, e *site) life {
			e.down()
			saved := copyOf(t, e.dir)
			e.up()
			e.say(70)
			was := life{entries: e.down()}
			replaceDir(t, e.dir, saved)
			e.wire.cut()
			e.up()
			e.say(200)
			e.wire.mend()
			return was
		}},
		{"edge's journal lost its end", func(t *testing.T, s *sites, e *site) life {
			was := life{entries: e.down()}
			cutFile(filepath.Join(blocks, "*.blk"))(t, e.dir)
			remove(filepath.Join(blocks, "index.db"))(t, e.dir)
			e.up()
			return was
		}},
		{keepsNumbers, func(t *testing.T, s *sites, e *site) life {
			was := life{entries: e.down()}
			cutFile(filepath.Join(blocks, "*.blk"))(t, e.dir)
			e.up()
			return was
		}},
		{"edge set aside and begun again", func(t *testing.T, s *sites, e *site) life {
			was := life{entries: e.down()}
			remove("journal")(t, e.dir)
			e.server = startServer(t, e.dir, e.args("--journal-set-aside")...)
			e.pushers.addr = e.server.RelayAddr
			return was
		}},
		{"hub wiped", func(t *testing.T, s *sites, e *site) life {
			stopProjected(t, s.hub)
			if err := os.RemoveAll(s.dir); err != nil {
				t.Fatal(err)
			}
			s.hubUp()
			return life{}
		}},
		{"hub restored from a backup", func(t *testing.T, s *sites, e *site) life {
			file := backUp(t, s.hub)
			e.say(70)
			e.level()
			stopProjected(t, s.hub)
			restoreDir(t, s.dir, file)
			s.hubUp()
			return life{}
		}},
		{"hub wiped, and the edge set back", func(t *testing.T, s *sites, e *site) life {
			e.down()
			saved := copyOf(t, e.dir)
			e.up()
			e.say(70)
			e.down()
			stopProjected(t, s.hub)
			if err := os.RemoveAll(s.dir); err != nil {
				t.Fatal(err)
			}
			replaceDir(t, e.dir, saved)
			e.up()
			s.hubUp()
			return life{}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSites(t, "ams1")
			e := s.edges[0]
			e.withPushers(2)
			e.say(100)
			e.level()
			was := test.do(t, s, e)
			e.say(50)
			now := e.down()
			seen, err := s.seen(e.name)
			if err != nil {
				t.Fatal(err)
			}
			stopProjected(t, s.hub)
			want := was.then(now)
			compareHub(t, s.dir, map[string][]entry{e.name: want.entries})
			begun := link.Begun{}
			if len(seen.Begun) > 0 {
				begun = seen.Begun[len(seen.Begun)-1]
			}
			if test.name == keepsNumbers { // what is only missing at the edge the hub has
				want.begun, want.kept = 0, 0
			}
			if begun.At != want.begun || begun.Kept != want.kept || len(seen.Begun) > 1 || len(seen.Gaps) > 0 {
				t.Errorf("the hub says %+v; want another history from %d on, %d kept, and no gap", seen, want.begun, want.kept)
			}
			t.Logf("%d entries of the edge, %d at the hub, another history from %d on, %d kept", len(now), len(want.entries), want.begun, want.kept)
		})
	}
}

// An edge with another name is another edge, and the one before is silent.
func TestHubEdgeRenamed(t *testing.T) {
	s := newSites(t, "ams1")
	e := s.edges[0]
	e.withPushers(2)
	e.say(50)
	before := e.down()
	e.name = spareName
	e.server = startServer(t, e.dir, e.args()...)
	e.pushers.addr = e.server.RelayAddr
	e.say(50)
	now := e.down()
	old, err := s.seen("ams1")
	if err != nil {
		t.Fatal(err)
	}
	if old.State != link.StateSilent || old.Has != before[len(before)-1].seq {
		t.Errorf("the hub says of the old name %+v", old)
	}
	stopProjected(t, s.hub)
	for i := range before {
		if copied := before[i].event; copied != nil {
			copied.Edge = "ams1"
		}
	}
	compareHub(t, s.dir, map[string][]entry{"ams1": before, spareName: now})
}

// withPushers makes relays for say.
func (e *site) withPushers(n int) {
	e.pushers = newPushers(e.server.RelayAddr, n, 2, rand.New(rand.NewPCG(1, 2)))
}

// say has each relay push n events, and returns when the edge has confirmed them.
func (e *site) say(n int) {
	e.t.Helper()
	if err := e.pushers.push(e.t.Context(), n); err != nil {
		e.t.Fatal(err)
	}
}

// backUp writes a backup of the running edge.
func (e *site) backUp() (file string) { return backUp(e.t, e.server) }

func backUp(t *testing.T, s *pulseproc.Server) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup")
	pulse(t, command.ExitOK, "backup", "--api", s.HTTPAddr, file)
	return file
}

// restore puts a backup in the place of the stopped edge's data dir.
func (e *site) restore(file string) { restoreDir(e.t, e.dir, file) }

func restoreDir(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	pulse(t, command.ExitOK, "restore", "--data-dir", dir, file)
}

// hubUp starts the hub again.
func (s *sites) hubUp() {
	s.t.Helper()
	if err := s.hub.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// copyOf returns a copy of the data dir of a stopped server.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	saved := filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return saved
}

func replaceDir(t *testing.T, dir, by string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(by)); err != nil {
		t.Fatal(err)
	}
}
