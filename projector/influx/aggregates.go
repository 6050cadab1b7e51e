package influx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/metric"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// grace is how long after its end a window stays open for events that are still on their way.
	grace = 10 * time.Second
	// keepClosed is how many closed windows stay in memory for late events. maxWindows is how many
	// there may be in all before every window is closed early. Then all but the last used are
	// forgotten, because they can be counted again from the journal.
	keepClosed = 2
	maxWindows = 32
	// renewSeries is the number of series above which a relay is made again in the cache if fewer
	// than half of its series had readings in its last window.
	renewSeries = 64
)

// AggregatesOptions configure an Aggregates. Store, Journal, DB and Interval are required.
type AggregatesOptions struct {
	Store Store
	// EnsureSchema is as in RawOptions.
	EnsureSchema func(context.Context) error
	// Journal is read again when a late event comes for a window that is not in memory any more.
	Journal projector.Source
	// DB holds the index of windows, bucket "windows".
	DB *bbolt.DB
	// Interval is the length of a window. Windows begin at whole multiples of it since 1970 UTC.
	Interval time.Duration
	// Retention is how long the policy keeps rows. Windows that ended earlier are not written (0:
	// all windows are).
	Retention time.Duration
	// Rejects lists the rows and readings that are left out for good (nil: they are only counted
	// and logged).
	Rejects *projector.Rejects
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// Aggregates writes windows of readings under the policy one_week, in the measurement aggregate. A
// row's time is its window's start. A window has a row per set of tags, with these fields for each
// stat: `stat` (the mean), `stat:count`, `:sum`, `:min`, `:max` and `:last` (the value of the
// reading that comes last in the journal). Aggregates is a projection for one runner.
//
// # Why the rows are always right
//
// A row is always the fold of all readings of its tags in its window that the journal had up to
// some record, in the journal's order. Writing a row again overwrites it. Three rules keep the rows
// so:
//
//  1. The position stays before the first record of every open window, and before every late record
//     that is not written yet. So after a crash all these records come again, and the readings that
//     memory lost are counted again.
//  2. Before rows are written, a transaction saves in the index in pulse.db which records the rows
//     are made of (a window's extents). So a record up to the position is in the index entry of its
//     window, or in no entry. When an event comes for a window that is not in memory, the window's
//     extents before that event are first read again from the journal and counted. So a late event
//     (from a clock that stepped back, or a slow relay) never makes a row of its own.
//  3. A window is not written before the fold has reached the end of the window's extents. So after
//     a restart, and while records come again after a crash, a complete row is never replaced by a
//     row of fewer readings, not even for a short time.
//
// If the journal has dropped records that are needed to count a window again, the window is frozen:
// its rows stay as they are, and its late readings are counted and listed (unless there are no rows
// to keep: see RowsGone). If the journal lost its last records, the index forgets these records
// too, and the rows are made of the records that are left. A changed interval applies from the next
// window on that no event has touched. Windows never overlap.
//
// A replay (NewAggregatesPast) writes a window's rows again between two batches, and follows the
// same rules. A window that the fold holds completely is written as it is. Any other window is
// counted from all its extents, written, and forgotten. So a row is never replaced by a row of
// fewer readings.
//
// # When rows are written
//
// Unwritten shows the readings that InfluxDB does not have yet, so that history needs no row. A row
// of an open window is written every few minutes for those who read InfluxDB itself (schedule.go),
// and in its last form when the window closes.
//
// Each edge of a hub has windows of its own, because an edge that was cut off sends events of hours
// ago beside the events of the others. All edges have one position and are written together.
//
// A window closes when an event of its edge comes whose time is the grace or more after the window's
// end. It also closes when the clock passes that point and no event came for it during the grace, or
// when no event came for it during the interval and the grace. So a clock that was once far ahead
// holds nothing back. The clock of an edge that catches up is behind.
type Aggregates struct {
	o     AggregatesOptions
	sink  *sink
	index windowIndex
	log   *slog.Logger

	cache    lookup.Cache[relayState, struct{}]
	readings []aggReading
	edges    map[string]*edgeWindows // by name
	lastEdge *edgeWindows            // of the last event
	head     uint64                  // the last record that was folded
	slice    uint8                   // the slice of open windows that is written next, and when the last was
	slicedAt time.Time
	rows     rowBuffer
	rowsGone atomic.Bool // Begin must clear the index

	// turn holds one element while the runner or a replay works on the fields above.
	turn chan struct{}
	// mu is held by who has the turn while it changes head, edges, or a window in memory, and by
	// Unwritten, which only reads them. So Unwritten never waits for InfluxDB or the journal.
	mu sync.Mutex

	closed, late, recounts, expired, lost, unusable prometheus.Counter
	inMemory                                        prometheus.Gauge
}

// NewAggregates returns the projection influx_aggregates.
func NewAggregates(o AggregatesOptions) (*Aggregates, error) {
	if o.Store == nil || o.Journal == nil || o.DB == nil {
		return nil, errors.New("influx: AggregatesOptions needs a Store, a Journal and a DB")
	}
	if o.Interval < time.Second || o.Interval > 365*24*time.Hour || o.Retention < 0 {
		return nil, fmt.Errorf("influx: an aggregate interval of %v kept for %v; give an interval from 1s to a year", o.Interval, o.Retention)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Aggregates{o: o, turn: make(chan struct{}, 1), log: o.Logger.With("projection", "influx_aggregates"),
		edges: make(map[string]*edgeWindows)}
	a.sink = newSink(o.Store, PolicyAggregate, o.EnsureSchema, a.log, newSinkCounters(o.Registerer, a.Name()))
	a.index = windowIndex{db: o.DB, keep: math.MaxInt, retention: int64(o.Retention)}
	if o.Retention > 0 {
		a.index.keep = int(o.Retention/o.Interval) + 64
	}
	counter := func(name, help string) prometheus.Counter { return newCounter(o.Registerer, a.Name(), name, help) }
	a.closed = counter("windows_closed_total", "Windows written for the last time, as far as was known.")
	a.late = counter("late_readings_total", "Readings for a window that was closed already; its rows are written again.")
	a.recounts = counter("window_recounts_total", "Windows counted again from the journal because of a late event.")
	a.expired = counter("readings_expired_total", "Readings not written because they are older than the retention policy keeps.")
	a.lost = counter("late_readings_lost_total", "Late readings left out because the journal has dropped the other events of their window.")
	a.unusable = counter("readings_unusable_total", "Readings left out because they are not finite.")
	a.inMemory = newWindowGauge(o.Registerer)
	return a, nil
}

func newWindowGauge(reg prometheus.Registerer) prometheus.Gauge {
	return metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_projector_windows", Help: "Windows of the aggregates in memory."}))
}

// Name is "influx_aggregates".
func (a *Aggregates) Name() string { return "influx_aggregates" }

// Begin forgets the windows in memory, because every record after the position will come.
func (a *Aggregates) Begin(ctx context.Context, span projector.Origin) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer a.leave()
	a.mu.Lock()
	a.cache = lookup.Cache[relayState, struct{}]{}
	a.edges, a.lastEdge = make(map[string]*edgeWindows), nil
	a.head = span.Position
	a.mu.Unlock()
	a.slicedAt = time.Time{}
	a.rows.known = nil
	if a.rowsGone.Load() {
		if err := a.index.clear(); err != nil {
			return err
		}
		a.rowsGone.Store(false)
	}
	if err := a.index.begin(span.Last); err != nil {
		return err
	}
	return a.knowEdges()
}

// RowsGone notes that InfluxDB holds none of the rows any more. From then on rows are made of the
// records that the journal holds, even if it has dropped the first records of a window: a row of
// some readings is better than no row. Call RowsGone before the journal is projected again from its
// first record. It may be called from any goroutine.
func (a *Aggregates) RowsGone() error {
	a.rowsGone.Store(true) // a running batch may still save windows
	return a.index.clear()
}

// Oldest returns the start of the oldest window with written rows, and zero if none is known.
func (a *Aggregates) Oldest() (time.Time, error) {
	edges, err := a.index.edges()
	if err != nil {
		return time.Time{}, err
	}
	var oldest time.Time
	for _, edge := range edges {
		e, ok, err := a.index.oldest(edge)
		if err != nil {
			return time.Time{}, err
		}
		if start := time.Unix(0, e.start).UTC(); ok && (oldest.IsZero() || start.Before(oldest)) {
			oldest = start
		}
	}
	return oldest, nil
}

// Apply folds the records and writes the windows that they close. The position is before the first
// record that would be needed again.
func (a *Aggregates) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	if err := a.enter(ctx); err != nil {
		return 0, err
	}
	defer a.leave()
	now := a.o.Now()
	some := false
	for i := range records {
		rec := &records[i]
		if e := rec.Event; e != nil {
			of := a.edge(e.Edge)
			of.newest, of.heard, some = e.Time, now, true
			if rec.Seq <= a.head {
				continue // offered again after a failed write; already in memory
			}
			w, err := a.windowOf(ctx, of, e.Time, rec.Seq, now)
			if err != nil {
				return 0, err
			}
			a.fold(w, rec.Seq, e, now)
		}
		a.mu.Lock()
		a.head = max(a.head, rec.Seq)
		a.mu.Unlock()
	}
	if some {
		if err := a.closeIf(ctx, func(w *window) bool { return w.edge.newest >= w.end+int64(grace) }); err != nil {
			return 0, err
		}
		a.evict(keepClosed)
	}
	return a.position(), nil
}

// fold adds an event's readings to its window w. A nil w means that the window has expired.
func (a *Aggregates) fold(w *window, seq uint64, e *codec.Event, now time.Time) {
	if w == nil {
		a.expired.Add(float64(e.Readings()))
		return
	}
	w.touched, w.used = now, seq
	if w.frozen {
		a.lost.Add(float64(e.Readings()))
		return
	}
	if !a.count(w, e, true) {
		return
	}
	w.records = takeIn(w.records, seq)
	if w.since.IsZero() {
		w.since = now
	}
	if w.closed {
		a.late.Add(float64(len(a.readings)))
	}
	if w.pin == 0 {
		w.pin = seq
	}
}

// count adds an event's readings to the accumulators, and reports whether there were any. dirty
// marks them to be written.
func (a *Aggregates) count(w *window, e *codec.Event, dirty bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.events++
	relay := a.cache.Relay(e.Key())
	b := relay.Data.block
	if relay.Data.window != w {
		b = a.block(w, relay)
	}
	a.readings = b.relay.Resolve(e, a.readings[:0])
	some := false
	for i := range a.readings {
		rd := &a.readings[i]
		if math.IsNaN(rd.Value) || math.IsInf(rd.Value, 0) {
			a.unusable.Inc()
			continue
		}
		at := int(rd.Series.Index)
		if at >= len(b.accs) {
			b.accs = append(b.accs, make([]acc, at+1-len(b.accs))...)
		}
		c := &b.accs[at]
		c.add(rd.Value)
		c.dirty = c.dirty || dirty
		some = true
	}
	if some && dirty {
		w.touch(b)
	}
	return some
}

// block returns the relay's block of a window, and makes it if there is none.
func (a *Aggregates) block(w *window, relay *aggRelay) *block {
	b := w.blocks[relay.Key.Relay]
	if b == nil {
		if n := relay.Len(); n > renewSeries && relay.Data.block != nil && n > 2*relay.Data.block.used() {
			a.cache.Drop(relay)
			relay = a.cache.Relay(relay.Key)
		}
		b = &block{relay: relay, accs: make([]acc, relay.Len()), slice: uint8(len(w.blocks) % openSlices)}
		relay.Data.blocks++
		w.blocks[relay.Key.Relay] = b
	}
	// If the relay was made again since the block was made, the block goes on with its own relay.
	if b.relay == relay {
		relay.Data.window, relay.Data.block = w, b
	}
	return b
}

// position is the last record that will never be needed again.
func (a *Aggregates) position() uint64 {
	position := a.head
	for _, e := range a.edges {
		for _, w := range e.windows {
			if w.pin != 0 {
				position = min(position, w.pin-1)
			}
		}
	}
	return position
}

// Persist makes the rows durable.
func (a *Aggregates) Persist(ctx context.Context) error { return a.o.Store.Flush(ctx, PolicyAggregate) }

// enter waits for the caller's turn, and leave ends it. Only one of the runner and a replay works
// on the windows at a time; otherwise an older row could replace a newer one.
func (a *Aggregates) enter(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Aggregates) leave() { <-a.turn }

// Tick writes what is due, and closes windows by the wall clock.
func (a *Aggregates) Tick(ctx context.Context, now time.Time) (uint64, error) {
	if err := a.enter(ctx); err != nil {
		return 0, err
	}
	defer a.leave()
	if err := a.writeDue(ctx, now); err != nil {
		return 0, err
	}
	err := a.closeIf(ctx, func(w *window) bool {
		quiet := now.Sub(w.touched)
		return quiet >= grace && w.edge.clock(now) >= w.end+int64(grace) || quiet >= a.o.Interval+grace
	})
	if err != nil {
		return 0, err
	}
	a.evict(keepClosed)
	return a.position(), nil
}

// Flush writes every reading that is not written. Open windows stay open, because more of their
// events may come after the next start.
func (a *Aggregates) Flush(ctx context.Context, now time.Time) (uint64, error) {
	if err := a.enter(ctx); err != nil {
		return 0, err
	}
	defer a.leave()
	if err := a.write(ctx, a.allWindows(), all, 0); err != nil {
		return 0, err
	}
	return a.position(), nil
}
