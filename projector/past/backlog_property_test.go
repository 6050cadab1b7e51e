package past_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/projectortest"
)

// TestBacklogLosesNothing does random operations: events, outages of the sink, writes that fail
// half-way, a sink that is wiped, crashes, retention, drains. In the end every record that the
// journal still has is in the sink. Every other record was applied since the sink was last wiped or
// is in a gap that was reported. The counts must add up.
func TestBacklogLosesNothing(t *testing.T) {
	const seeds = 25
	seen := make(map[string]int)
	for seed := range uint64(seeds) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), m: projectortest.NewMemory(), sunk: make(map[uint64]bool), gaps: make(map[uint64]int), dir: dir, seen: seen}
			w.run()
		})
		if t.Failed() {
			return
		}
	}
	for _, what := range []string{"jump", "crash", "rewind", "gap", "backlog gap", "left after a drain", "ranges"} {
		if seen[what] == 0 {
			t.Errorf("no %s in any run: %v", what, seen)
		}
	}
	t.Log(seen)
}

func (w *world) status() projector.BacklogStatus { return w.backlog.Backlog.Backlog() }

// world is a journal, a sink, and the runner with its backlog.
type world struct {
	t      *testing.T
	seed   uint64
	rnd    *rand.Rand // used by the test's goroutine only
	m      *projectortest.Memory
	dir    string
	seenMu sync.Mutex
	seen   map[string]int // what happened, over all seeds; guarded by seenMu

	db       *bbolt.DB
	files    int
	runner   *projector.Runner
	backlog  *past.Queue
	registry *prometheus.Registry
	rewound  bool // in this session

	schema sync.Mutex // cmd/pulse has such a mutex

	mu      sync.Mutex // guards the fields below
	down    bool
	exists  bool // the sink has its schema
	sunk    map[uint64]bool
	gaps    map[uint64]int // in this session: how often a record was in a gap
	lost    uint64         // records in these gaps
	covered map[uint64]bool
	first   uint64 // the first record of the last projection from the beginning
	writes  int
}

var errSinkDown = errors.New("down")

// sinkOf is a projection that writes into the sink of the world.
type sinkOf struct {
	w    *world
	live bool
}

func (s sinkOf) Name() string { return "p" }

func (s sinkOf) Begin(_ context.Context, span projector.Origin) error {
	if s.live && span.Position+1 == max(span.First, 1) {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.w.first = span.First
	}
	return nil
}

func (s sinkOf) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	w := s.w
	w.mu.Lock()
	w.writes++
	pause := time.Duration(w.writes*7919%200) * time.Millisecond
	w.mu.Unlock()
	time.Sleep(pause) // so that other things can happen meanwhile
	if !w.has() {
		if err := w.ensure(); err != nil {
			return 0, err
		}
	}
	time.Sleep(pause / 2)
	return records[len(records)-1].Seq, w.write(records)
}

func (w *world) has() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exists
}

// ensure makes the schema. Before that it makes everything that is projected into the sink begin
// again.
func (w *world) ensure() error {
	w.schema.Lock()
	defer w.schema.Unlock()
	if w.has() {
		return nil
	}
	if err := w.runner.Rewind(); err != nil {
		return err
	}
	w.mu.Lock() // no sleep here: time stands still while a goroutine waits for a mutex
	defer w.mu.Unlock()
	if w.down {
		return errSinkDown
	}
	w.exists, w.rewound = true, true
	w.happened("rewind")
	return nil
}

func (w *world) write(records []journal.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down || !w.exists {
		return errSinkDown
	}
	half := w.writes%11 == 0
	for i := range records {
		if half && i > len(records)/2 {
			return errSinkDown
		}
		w.sunk[records[i].Seq] = true
	}
	return nil
}

// Handle notes the gaps that are logged; world is a slog.Handler.
func (w *world) Handle(_ context.Context, r slog.Record) error {
	var from, to uint64
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "from":
			from = a.Value.Uint64()
		case "to":
			to = a.Value.Uint64()
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.Message {
	case "records are missing from the journal; the projection goes on behind them":
		w.happened("gap")
	case "records are missing from the journal before they could be filled in":
		w.happened("backlog gap")
	case "the projection goes on at the journal's end; what lies behind is filled in":
		w.happened("jump")
		return nil
	default:
		return nil
	}
	for seq := from; seq <= to; seq++ {
		w.gaps[seq]++
		w.covered[seq] = true
		w.lost++
	}
	return nil
}

func (w *world) Enabled(context.Context, slog.Level) bool { return true }
func (w *world) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *world) WithGroup(string) slog.Handler            { return w }
func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

func (w *world) happened(what string) {
	w.seenMu.Lock()
	defer w.seenMu.Unlock()
	w.seen[what]++
}

func (w *world) file() string {
	w.files++
	return filepath.Join(w.dir, fmt.Sprint(w.files))
}

// start starts a session on a database file.
func (w *world) start(file string) {
	var err error
	if w.db, err = bbolt.Open(file, 0o600, &bbolt.Options{NoSync: true}); err != nil {
		w.fatalf("%v", err)
	}
	w.registry = prometheus.NewRegistry()
	w.mu.Lock()
	clear(w.gaps)
	w.lost, w.rewound = 0, false
	w.mu.Unlock()
	w.backlog = newQueue(w.t, past.Options{View: view{sinkOf{w, false}}, Journal: w.m, DB: w.db, Logger: slog.New(w), Registerer: w.registry})
	w.runner = projectortest.NewRunner(w.t, projector.RunnerOptions{Projection: sinkOf{w, true}, Journal: w.m, Positions: projector.NewPositions(w.db), BatchRecords: 5,
		Backlog: w.backlog.Backlog, JumpBehind: 20, Logger: slog.New(w), Registerer: w.registry})
	if w.rnd.IntN(2) == 0 {
		projectortest.Start(w.t, w.runner)
	}
	if err := w.backlog.Start(w.t.Context()); err != nil {
		w.fatalf("%v", err)
	}
	if w.runner.Status().State == projector.StateNew {
		projectortest.Start(w.t, w.runner)
	}
}

// end stops the runner and the backlog of a session and checks the counts of the session.
func (w *world) end() {
	w.runner.Stop()
	_ = w.backlog.Stop(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.runner.Status()
	if counted := projectortest.Metric(w.t, w.registry, "pulse_projector_lost_records_total"); s.Lost != w.lost || uint64(counted) != w.lost {
		w.fatalf("%d records lost by the status, %v counted, %d logged", s.Lost, counted, w.lost)
	}
	for seq, n := range w.gaps {
		if n > 1 && !w.rewound {
			w.fatalf("record %d was reported %d times", seq, n)
		}
	}
	if err := w.db.Close(); err != nil {
		w.fatalf("%v", err)
	}
}

// crash keeps the content that the database and the sink have at this moment.
func (w *world) crash() {
	synctest.Wait()
	file := w.file()
	if err := w.db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(file, 0o600) }); err != nil {
		w.fatalf("%v", err)
	}
	w.mu.Lock()
	sunk, exists, down, first, covered := maps.Clone(w.sunk), w.exists, w.down, w.first, maps.Clone(w.covered)
	w.mu.Unlock()
	w.end()
	w.mu.Lock()
	w.sunk, w.exists, w.down, w.first, w.covered = sunk, exists, down, first, covered
	w.mu.Unlock()
	w.happened("crash")
	w.start(file)
}

func (w *world) drain() {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(w.rnd.IntN(4000))*time.Millisecond)
	defer cancel()
	var g sync.WaitGroup
	var runnerErr, backlogErr error
	g.Go(func() { runnerErr = w.runner.Drain(ctx) })
	g.Go(func() { backlogErr = w.backlog.Drain(ctx) })
	g.Wait()
	s := w.runner.Status()
	if (backlogErr == nil) != (s.Backlog == 0) {
		w.fatalf("the backlog drained (%v) with %d records left", backlogErr, s.Backlog)
	}
	if runnerErr == nil && (s.State != projector.StateDrained || s.Applied != w.m.Last()) {
		w.fatalf("drained, and the status is %+v", s)
	}
	if backlogErr != nil {
		w.happened("left after a drain")
	}
	file := w.db.Path()
	w.end()
	w.start(file)
}

func (w *world) run() {
	w.covered = make(map[uint64]bool)
	w.start(w.file())
	trimmed := uint64(1)
	for range 40 {
		switch op := w.rnd.IntN(20); {
		case op < 7:
			projectortest.Fill(w.m, w.rnd.IntN(80))
		case op < 10:
			w.mu.Lock()
			w.down = !w.down
			w.mu.Unlock()
		case op == 10:
			w.mu.Lock()
			w.exists = false
			clear(w.sunk)
			clear(w.covered)
			w.mu.Unlock()
		case op == 11:
			w.crash()
		case op == 12:
			if last := w.m.Last(); last > trimmed {
				trimmed += w.rnd.Uint64N(last - trimmed)
				w.m.Trim(trimmed)
			}
		case op == 13:
			w.drain()
		}
		if w.status().Ranges > 1 {
			w.happened("ranges")
		}
		time.Sleep(time.Duration(w.rnd.IntN(3000)) * time.Millisecond)
	}
	w.mu.Lock()
	w.down = false
	w.mu.Unlock()
	projectortest.Fill(w.m, 1) // so that a wipe is found
	time.Sleep(10 * time.Minute)
	s := w.runner.Status()
	if s.Lag != 0 || s.Backlog != 0 || s.Applied != w.m.Last() || s.SecondsToLoss != nil || s.State != projector.StateLive || w.status().Records > 0 {
		w.fatalf("at last the status is %+v, of the backlog %+v", s, w.status())
	}
	w.end()
	for seq := uint64(1); seq <= w.m.Last(); seq++ {
		switch {
		case w.sunk[seq]:
		case seq >= trimmed:
			w.fatalf("record %d is in the journal (%d to %d) and not in the sink", seq, trimmed, w.m.Last())
		case seq >= w.first && !w.covered[seq]:
			w.fatalf("record %d is neither in the sink nor in a gap; the sink was filled from %d on", seq, w.first)
		}
	}
	if n := w.m.OpenReaders(); n != 0 {
		w.fatalf("%d readers are left open", n)
	}
}
