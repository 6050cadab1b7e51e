package link

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
)

// world is a hub and an edge whose disks a test can copy, set back and wipe while they are down.
type world struct {
	t         *testing.T
	hub, edge *node
	saved     map[string]string
	said      []string // every event that the edge ever acknowledged and handed over, or has, in order
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, hub: newNode(t, "hub"), edge: newNode(t, "ams1"), saved: map[string]string{}}
	w.up()
	return w
}

func (w *world) up() {
	w.t.Helper()
	for _, n := range []*node{w.hub, w.edge} {
		if n.j == nil {
			n.open()
		}
	}
	w.hub.listen()
	w.edge.connect(w.hub.addr)
}

func (w *world) down() {
	w.t.Helper()
	w.edge.close()
	w.hub.close()
}

// say appends events to the edge.
func (w *world) say(n int) {
	w.t.Helper()
	before := w.edge.j.LastSeq()
	w.edge.make(n)
	for _, r := range w.edge.content("") {
		if r.Seq > before {
			w.said = append(w.said, text(w.t, r))
		}
	}
}

// offline appends events to the edge while nothing is connected.
func (w *world) offline(n int) {
	w.t.Helper()
	w.edge.open()
	w.say(n)
	w.edge.close()
}

func (w *world) save(n *node, as string) {
	w.t.Helper()
	w.saved[as] = filepath.Join(w.t.TempDir(), as)
	copyDir(w.t, n.dir, w.saved[as])
}

func (w *world) restore(n *node, as string) {
	w.t.Helper()
	copyDir(w.t, w.saved[as], n.dir)
}

func (w *world) wipe(n *node, what ...string) {
	w.t.Helper()
	for _, name := range what {
		if err := os.RemoveAll(filepath.Join(n.dir, name)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Whatever happens to the disks of both ends, the hub has every event once, in order, and what it had
// stays.
func TestHistories(t *testing.T) {
	type want struct{ begun, kept, at int } // how often another history was begun, and the last of them
	cases := map[string]struct {
		do   func(w *world)
		want want
	}{
		"both restarted": {func(w *world) {
			w.down()
			w.offline(50)
			w.up()
			w.say(10)
		}, want{}},
		"edge set back, connects at once": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.edge, "old")
			w.up()
			w.edge.level()
			w.say(30)
		}, want{1, 170, 101}},
		"edge set back, fewer events before it connects": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.edge, "old")
			w.offline(30)
			w.up()
		}, want{1, 170, 101}},
		"edge set back, more events before it connects": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.edge, "old")
			w.offline(300)
			w.up()
		}, want{1, 170, 101}},
		"edge set back twice, the second time further": {func(w *world) {
			w.down()
			w.save(w.edge, "older")
			w.offline(20)
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.edge, "old")
			w.offline(40)
			w.up()
			w.edge.level()
			w.down()
			w.restore(w.edge, "older")
			w.offline(55)
			w.up()
		}, want{2, 160, 101}},
		"edge set back twice to the same": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			for range 2 {
				w.down()
				w.restore(w.edge, "old")
				w.offline(40)
				w.up()
				w.edge.level()
			}
		}, want{2, 140, 101}},
		"edge begun again": {func(w *world) {
			w.down()
			w.wipe(w.edge, "journal", "pulse.db")
			w.offline(60)
			w.up()
			w.say(100)
		}, want{1, 100, 1}},
		"edge begun again, with nothing to say": {func(w *world) {
			w.down()
			w.wipe(w.edge, "journal", "pulse.db")
			w.up()
			w.edge.level()
			w.down()
			w.up()
			w.say(5)
		}, want{1, 100, 1}},
		"another Pulse of the name for a while, and the first again": {func(w *world) {
			for range 2 {
				w.down()
				w.save(w.edge, "first")
				w.wipe(w.edge, "journal", "pulse.db")
				w.offline(30)
				w.up()
				w.edge.level()
				w.say(3)
				w.edge.level()
				w.down()
				w.restore(w.edge, "first")
				w.offline(20)
				w.up()
				w.say(10)
				w.edge.level()
			}
		}, want{4, 33, 131}},
		"a copy for a while, and the original again": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.save(w.edge, "original")
			w.restore(w.edge, "old")
			w.offline(15)
			w.up()
			w.edge.level()
			w.down()
			w.save(w.edge, "copy")
			w.restore(w.edge, "original")
			w.offline(5)
			w.up()
			w.edge.level()
			w.down()
			w.restore(w.edge, "copy")
			w.up()
			w.say(8)
		}, want{3, 175, 116}},
		"set back to before an earlier set-back, and the first original again": {func(w *world) {
			w.down()
			w.save(w.edge, "100")
			w.offline(20)
			w.save(w.edge, "120")
			w.offline(20)
			w.up()
			w.edge.level()
			w.down()
			w.save(w.edge, "140")
			w.restore(w.edge, "120")
			w.offline(30)
			w.up()
			w.edge.level()
			w.down()
			w.restore(w.edge, "100")
			w.offline(30)
			w.up()
			w.edge.level()
			w.down()
			w.restore(w.edge, "140")
			w.offline(1)
			w.up()
		}, want{3, 130, 141}},
		"the hub's journal dropped all of the edge": {func(w *world) {
			w.down()
			w.hub.options.Retention = time.Second
			w.hub.open()
			w.hub.make(1) // beside it
			eventually(w.t, "the events are dropped", func() bool {
				st, err := w.hub.j.State(context.Background())
				return err == nil && st.FirstSeq > 101
			})
			w.hub.close()
			w.hub.options.Retention = 0
			w.said = nil
			w.up()
			w.say(10)
		}, want{}},
		"hub wiped": {func(w *world) {
			w.down()
			w.wipe(w.hub, "journal", "pulse.db")
			w.up()
			w.say(10)
		}, want{}},
		"hub's journal wiped, its state file left": {func(w *world) {
			w.down()
			w.wipe(w.hub, "journal")
			w.hub.options.SetAside = true
			w.up()
			w.hub.options.SetAside = false
			w.say(10)
		}, want{}},
		"hub's state file wiped": {func(w *world) {
			w.down()
			w.wipe(w.hub, "pulse.db")
			w.up()
			w.say(10)
		}, want{}},
		"hub restored from a backup": {func(w *world) {
			w.down()
			w.save(w.hub, "old")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.hub, "old")
			w.up()
			w.say(10)
		}, want{}},
		"hub restored, and edge set back behind it": {func(w *world) {
			w.down()
			w.save(w.edge, "old")
			w.up()
			w.say(50)
			w.edge.level()
			w.down()
			w.save(w.hub, "old hub")
			w.up()
			w.say(70)
			w.edge.level()
			w.down()
			w.restore(w.hub, "old hub")
			w.restore(w.edge, "old")
			w.said = w.said[:150] // the others are nowhere any more
			w.offline(90)
			w.up()
		}, want{1, 150, 101}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.say(100)
			w.edge.level()
			c.do(w)
			w.edge.level()
			w.hub.same("ams1", w.said)
			e := w.hub.edge("ams1")
			if len(e.Gaps) > 0 || len(e.Begun) != c.want.begun {
				t.Fatalf("the hub says %+v", e)
			}
			if c.want.begun > 0 {
				if b := e.Begun[len(e.Begun)-1]; b.Kept != uint64(c.want.kept) || b.At != uint64(c.want.at) || b.Reason == "" {
					t.Errorf("begun: %+v", b)
				}
			}
			// Once more: nothing comes twice.
			w.down()
			w.up()
			w.edge.level()
			w.hub.same("ams1", w.said)
			if e := w.hub.edge("ams1"); len(e.Begun) != c.want.begun {
				t.Errorf("after a restart: %+v", e)
			}
		})
	}
}

// Retention at the edge overtook an outage: both ends tell the same gap, with its numbers.
func TestRetentionOvertakes(t *testing.T) {
	w := newWorld(t)
	w.say(100)
	w.edge.level()
	w.down()
	w.edge.options.Retention = time.Second
	w.edge.open()
	w.edge.make(200)
	eventually(t, "the events are dropped", func() bool {
		st, err := w.edge.j.State(context.Background())
		return err == nil && st.FirstSeq > 300
	})
	w.edge.close()
	w.edge.options.Retention = 0
	w.up()
	w.say(50)
	w.edge.level()
	w.hub.same("ams1", w.said)
	for range 2 {
		e, s := w.hub.edge("ams1"), w.edge.uplink.Status()
		if len(e.Gaps) != 1 || e.Gaps[0].From != 101 || e.Gaps[0].To != 300 || e.Gaps[0].Events != 200 || e.Gaps[0].Reason != journal.GapRetention {
			t.Errorf("the hub says %+v", e.Gaps)
		}
		if len(s.Gaps) > 0 && (s.Gaps[0].From != 101 || s.Gaps[0].To != 300) {
			t.Errorf("the edge says %+v", s.Gaps)
		}
		w.down()
		w.up()
		w.edge.level()
	}
	if n := slices.IndexFunc(w.hub.content("ams1"), func(r journal.Record) bool { return nameOf(&r).Origin == 301 }); n != 100 {
		t.Errorf("event 301 is the %d-th", n)
	}
}
