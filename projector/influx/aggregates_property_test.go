package influx

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/projectortest"
)

// recount is the model: a plain fold of every event of the journal, in the journal's order.
func recount(m *projectortest.Memory, interval time.Duration) map[cell]float64 {
	want := make(map[cell]float64)
	m.Events(func(_ uint64, e *codec.Event) {
		start := time.Unix(0, e.Time).UTC().Truncate(interval).UnixNano()
		for _, c := range e.Collectors {
			tags := []Tag{{"host", e.Relay}, {"edge", e.Edge}}
			for _, tag := range c.Tags {
				if k, v, ok := strings.Cut(tag, ":"); ok {
					tags = append(tags, Tag{k, v})
				}
			}
			series := string(NewSeries("aggregate", tags...).AppendKey(nil))
			for _, s := range c.Stats {
				at := func(field string) cell { return cell{PolicyAggregate, series, start, s.ID + field} }
				n := want[at(":count")]
				if n == 0 || s.Value < want[at(":min")] {
					want[at(":min")] = s.Value
				}
				if n == 0 || s.Value > want[at(":max")] {
					want[at(":max")] = s.Value
				}
				want[at(":last")] = s.Value
				want[at(":sum")] += s.Value
				want[at(":count")] = n + 1
				// The rounded sum of equal numbers can be greater than the count times the number.
				want[at("")] = min(max(want[at(":sum")]/(n+1), want[at(":min")]), want[at(":max")])
			}
		}
	})
	return want
}

func compare(tb testing.TB, rows, want map[cell]float64) {
	tb.Helper()
	wrong := 0
	for c, v := range want {
		if got, ok := rows[c]; !ok || got != v {
			if wrong++; wrong < 5 {
				tb.Errorf("%s %s %s is %v (%t), a recount of the journal gives %v", time.Unix(0, c.time).UTC(), c.series, c.field, got, ok, v)
			}
		}
	}
	for c := range rows {
		if _, ok := want[c]; !ok {
			if wrong++; wrong < 5 {
				tb.Errorf("%s %s %s is there, and no reading belongs to it", time.Unix(0, c.time).UTC(), c.series, c.field)
			}
		}
	}
	if wrong > 0 {
		tb.Errorf("%d of %d fields are wrong", wrong, len(want))
	}
}

// view is what history shows: the rows that memory has in place of the store's, and the store's.
func (w *world) view() (view map[cell]float64, ranges []TimeRange) {
	view = make(map[cell]float64)
	for _, stat := range []string{"s0", "s1", "s2", "s3"} {
		ranges = w.a.Unwritten(stat, math.MinInt64, math.MaxInt64, func(r WindowRow) {
			series := string(NewSeries("aggregate", r.Tags...).AppendKey(nil))
			for field, v := range map[string]float64{"": r.Mean, ":count": r.Count, ":sum": r.Sum, ":min": r.Min, ":max": r.Max, ":last": r.Last} {
				view[cell{PolicyAggregate, series, r.Time, stat + field}] = v
			}
		})
	}
	for c, v := range w.store.cells {
		if !slices.ContainsFunc(ranges, func(r TimeRange) bool { return c.time >= r.From && c.time < r.To }) {
			view[c] = v
		}
	}
	return view, ranges
}

// checkView compares what history shows with a recount. While records of before a crash are still to
// come, it may show fewer readings, but never more. So it may beside edges that catch up, outside of
// the ranges that memory has.
func (w *world) checkView() {
	w.tb.Helper()
	view, ranges := w.view()
	want := recount(w.journal, w.interval)
	if w.pending == nil && w.reader.Pending() == 0 {
		if w.edges == nil {
			compare(w.tb, view, want)
			return
		}
		outside := func(c cell, _ float64) bool {
			return !slices.ContainsFunc(ranges, func(r TimeRange) bool { return r.has(c.time) })
		}
		inView, inWant := maps.Clone(view), maps.Clone(want)
		maps.DeleteFunc(inView, outside)
		maps.DeleteFunc(inWant, outside)
		compare(w.tb, inView, inWant)
	}
	for c, v := range view {
		if strings.HasSuffix(c.field, ":count") && v > want[c] {
			w.tb.Errorf("history counts %v readings at %s of %s %s, the journal has %v", v, time.Unix(0, c.time).UTC(), c.series, c.field, want[c])
		}
	}
}

// world is a journal, a store and aggregates over them, with a clock.
type world struct {
	tb       testing.TB
	rng      *rand.Rand
	journal  *projectortest.Memory
	store    *fakeStore
	db       *bbolt.DB
	counts   *prometheus.Registry
	interval time.Duration
	clock    time.Time
	edges    map[string]time.Duration // how far behind the clock each is; nil: there are none

	a        *Aggregates
	reader   projector.Reader
	pending  []journal.Record // read and not yet applied
	position []uint64         // returned since the last crash; the runner has saved one of them
	again    *asked           // a replay under way; its cursor is saved after each step
}

func newWorld(tb testing.TB, seed uint64) *world {
	w := &world{tb: tb, rng: rand.New(rand.NewPCG(seed, 1)), journal: projectortest.NewMemory(), store: newFakeStore(), db: openDB(tb), counts: prometheus.NewRegistry(),
		interval: time.Minute, clock: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	w.store.check = func(c cell, old float64, there bool, v float64) {
		if there && strings.HasSuffix(c.field, ":count") && v < old {
			tb.Fatalf("seed %d: a row of %v readings was replaced by one of %v (%s %s)", seed, old, v, c.series, c.field)
		}
	}
	w.boot(0)
	return w
}

// boot starts aggregates at a saved position.
func (w *world) boot(position uint64) {
	w.a = must(NewAggregates(AggregatesOptions{Store: w.store, Journal: w.journal, DB: w.db, Interval: w.interval,
		Registerer: w.counts, Now: func() time.Time { return w.clock }}))
	if err := w.a.Begin(w.tb.Context(), projector.Origin{Position: position, First: 1, Last: w.journal.Last()}); err != nil {
		w.tb.Fatal(err)
	}
	w.position = []uint64{position}
	w.reader = must(w.journal.ReadFrom(position + 1))
	w.pending = nil
}

// crash kills the process: the saved position is one of those returned since the last crash.
func (w *world) crash() {
	w.boot(w.position[w.rng.IntN(len(w.position))])
}

func (w *world) event() *codec.Event {
	r := w.rng
	e := &codec.Event{Relay: fmt.Sprint("relay", r.IntN(3)), Time: w.clock.UnixNano() - r.Int64N(int64(50*time.Millisecond))}
	if n := r.IntN(len(w.edges) + 1); n > 0 {
		e.Edge = fmt.Sprint("edge", n)
		e.Time -= int64(w.edges[e.Edge])
		w.edges[e.Edge] = max(0, w.edges[e.Edge]-time.Duration(r.IntN(20))*time.Second) // it catches up
	}
	for c := range 1 + r.IntN(2) {
		col := codec.Collector{Name: fmt.Sprint("c", c)}
		if r.IntN(2) == 0 {
			col.Tags = []string{fmt.Sprint("service:", r.IntN(2)), "bare"}
		}
		for range 1 + r.IntN(3) {
			col.Stats = append(col.Stats, codec.Stat{ID: fmt.Sprint("s", r.IntN(4)), Value: r.NormFloat64()})
		}
		e.Collectors = append(e.Collectors, col)
	}
	return e
}

// apply offers a batch. A batch that failed is offered again unchanged.
func (w *world) apply() bool {
	if w.pending == nil {
		if w.reader.Pending() == 0 {
			return false
		}
		records, err := w.reader.Read(w.tb.Context(), 1+w.rng.IntN(40))
		if err != nil {
			return false
		}
		w.pending = records
	}
	position, err := w.a.Apply(w.tb.Context(), w.pending)
	return w.took(position, err)
}

func (w *world) took(position uint64, err error) bool {
	if err != nil {
		return true
	}
	if last := w.position[len(w.position)-1]; position < last {
		w.tb.Fatalf("the position went back from %d to %d", last, position)
	}
	w.position = append(w.position, position)
	w.pending = nil
	return true
}

func (w *world) tick() {
	if w.pending == nil {
		w.took(w.a.Tick(w.tb.Context(), w.clock))
	}
}

// asked is a replay of aggregates.
type asked struct {
	past.Range
	stepFor time.Duration
	cursor  json.RawMessage
}

// replay does one step of a replay, also between two attempts of a batch. If there is no replay, it
// begins one of a random range.
func (w *world) replay() {
	if w.again == nil {
		from := w.clock.Add(-time.Duration(w.rng.IntN(45)) * time.Minute)
		w.begin(from, from.Add(time.Duration(1+w.rng.IntN(3600))*time.Second), w.rng.IntN(8) == 0)
	}
	s, err := w.step()
	if err != nil || w.rng.IntN(20) == 0 { // a crash before the cursor was saved
		return
	}
	if w.again.cursor = s.Cursor; s.Done {
		w.again = nil
	}
}

func (w *world) step() (past.Step, error) {
	target := &aggregatesPast{w.a, w.again.stepFor}
	return target.Step(w.tb.Context(), w.again.Range, w.again.cursor)
}

// begin begins a replay. Half of the replays do one window a step.
func (w *world) begin(from, to time.Time, dry bool) {
	c := windowsCursor{Before: to.UnixNano()}
	of := ""
	if w.edges != nil && to.Before(w.clock.AddDate(1, 0, 0)) {
		of = []string{"", "edge1", "edge2"}[w.rng.IntN(3)]
	}
	w.again = &asked{past.Range{From: from, To: to, Edge: of, DryRun: dry, Quiet: time.Minute}, time.Duration(w.rng.IntN(2)) * time.Second, c.encode()}
}

// lose deletes the rows of a window from the store, as a person could.
func (w *world) lose() {
	at := w.clock.Add(-time.Duration(w.rng.IntN(30)) * time.Minute).Truncate(w.interval).UnixNano()
	maps.DeleteFunc(w.store.cells, func(c cell, _ float64) bool { return c.time == at })
}

// TestAggregatesEqualARecount does at random everything that can happen to the projection, and
// compares the rows with a recount of the journal. Replays of random ranges run meanwhile. In every
// other round rows are deleted too, and a replay of all time brings them back at the end. In the
// other rounds, what history shows meanwhile is compared as well. In the second half there are edges,
// which are cut off now and then and catch up.
func TestAggregatesEqualARecount(t *testing.T) {
	for seed := range uint64(80) {
		w := newWorld(t, seed)
		if seed >= 40 {
			w.edges = map[string]time.Duration{"edge1": 0, "edge2": 0}
		}
		if seed%4 >= 2 { // open windows are written too
			w.interval = 10 * time.Minute
			w.boot(0)
		}
		r := w.rng
		down := false
		w.store.before = func(points []Point) (int, error) {
			if down || r.IntN(20) == 0 {
				return r.IntN(len(points) + 1), errDown // some points may have been stored
			}
			return 0, nil
		}
		for range 150 {
			switch n := r.IntN(112); {
			case n < 45:
				for range r.IntN(30) {
					w.clock = w.clock.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
					w.journal.Append(w.event())
				}
			case n < 75:
				w.apply()
			case n < 85:
				w.clock = w.clock.Add(time.Duration(r.IntN(90)) * time.Second)
				w.tick()
			case n < 87:
				w.clock = w.clock.Add(-time.Duration(r.IntN(20)) * time.Minute) // the clock steps back
			case n < 88:
				ahead := w.event()
				ahead.Time += int64(10 * 365 * 24 * time.Hour)
				w.journal.Append(ahead)
			case n < 90:
				late := w.event()
				late.Time -= r.Int64N(int64(30 * time.Minute))
				w.journal.Append(late)
			case n < 91:
				for _, edge := range slices.Sorted(maps.Keys(w.edges)) {
					if r.IntN(2) == 0 {
						w.edges[edge] = time.Duration(r.IntN(120)) * time.Minute
					}
				}
			case n < 92:
				w.journal.AppendBad(codec.ErrDecode)
				w.journal.AppendRelay(codec.RelayEvent{Relay: "relay1"})
			case n < 95:
				down = !down
			case n < 100:
				w.crash()
			case n < 110:
				w.replay()
			case seed%2 == 1:
				w.lose()
			}
			if seed%2 == 0 && r.IntN(4) == 0 {
				if w.checkView(); t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		}
		down = false
		for w.apply() {
		}
		for w.pending = nil; ; {
			if _, err := w.a.Flush(t.Context(), w.clock); err == nil {
				break
			}
		}
		if w.again = nil; seed%2 == 1 {
			w.store.before = nil
			for w.begin(time.Unix(0, 0), w.clock.AddDate(20, 0, 0), false); w.again != nil; {
				w.replay()
			}
		}
		compare(t, w.store.cells, recount(w.journal, w.interval))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
