package influx

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
)

// stepFor is how long a step of a replay starts on new windows; the last window may take longer.
const stepFor = 300 * time.Millisecond

// aggregatesPast replays windows, and takes turns with the runner of the aggregates.
type aggregatesPast struct {
	a       *Aggregates
	stepFor time.Duration
}

// NewAggregatesPast returns the target "aggregates". It writes all rows of the windows that overlap
// a range of time again, and removes from the rejects the rows that are not refused any more. The
// windows are those in memory and in the index. If the journal has dropped some of a window's
// records, the window stays as it is.
func NewAggregatesPast(a *Aggregates) past.Target { return &aggregatesPast{a, stepFor} }

// Name is "aggregates".
func (t *aggregatesPast) Name() string { return "aggregates" }

// Persist implements projector.Persister.
func (t *aggregatesPast) Persist(ctx context.Context) error { return t.a.Persist(ctx) }

// windowsCursor is the position of a replay: which windows are left to do.
type windowsCursor struct {
	// Before is a time in ns: the windows that begin before it are left. Of the windows that begin at
	// the last nanosecond before it only those of the edges whose names are before Edge are left, if
	// Edge is not "".
	Before int64  `json:"before"`
	Edge   string `json:"edge,omitempty"`
	// Lost are the ranges of windows' records that the journal does not have any more.
	Lost [][2]uint64 `json:"lost,omitempty"`
}

// Plan implements past.Target.
func (t *aggregatesPast) Plan(ctx context.Context, r past.Range) (past.Plan, error) {
	state, err := t.a.o.Journal.State(ctx)
	if err != nil {
		return past.Plan{}, err
	}
	c := windowsCursor{Before: r.To.UnixNano()}
	left, err := t.left(r, &c)
	if err != nil {
		return past.Plan{}, err
	}
	p := past.Plan{Cursor: c.encode(), Left: left, Notes: extentNotes(state, r.From, r.To)}
	if keep := t.a.o.Retention; keep > 0 && r.From.Before(t.a.o.Now().Add(-keep)) {
		p.Notes = append(p.Notes, fmt.Sprintf("InfluxDB keeps aggregates for %v; readings of windows that ended before are counted as expired", keep))
	}
	return p, nil
}

// left returns about how many records the windows have that are not done.
func (t *aggregatesPast) left(r past.Range, c *windowsCursor) (uint64, error) {
	edges, err := t.a.index.edges()
	if err != nil {
		return 0, err
	}
	var list []journal.Span
	for _, edge := range edges {
		if !r.Takes(edge) {
			continue
		}
		err := t.a.index.overlapping(edge, r.From.UnixNano(), c.before(edge), func(e indexEntry) { list = append(list, e.records...) })
		if err != nil {
			return 0, err
		}
	}
	return journal.Union(list).Records(), nil
}

// before returns the time before which the windows of an edge begin that are left.
func (c *windowsCursor) before(edge string) int64 {
	if c.Edge != "" && edge >= c.Edge {
		return c.Before - 1
	}
	return c.Before
}

// done notes that the window of an edge with a start was done. Of the windows with one start the edge
// whose name is last comes first, and the own relays' last.
func (c *windowsCursor) done(edge string, start int64) {
	c.Before, c.Edge = start, edge
	if edge != "" {
		c.Before++
	}
}

func (c *windowsCursor) encode() json.RawMessage {
	b, _ := json.Marshal(c) // numbers always encode
	return b
}

// lose adds missing records to c.Lost, and returns how many of them are new there.
func (c *windowsCursor) lose(list []journal.Span) uint64 {
	var known journal.Spans
	for _, x := range c.Lost {
		known = known.Add(journal.Span{First: x[0], Last: x[1]})
	}
	before := known.Records()
	known = known.Add(list...).AtMost(maxRanges)
	c.Lost = nil
	for _, x := range known {
		c.Lost = append(c.Lost, [2]uint64{x.First, x.Last})
	}
	return known.Records() - before
}

// Step implements past.Target. It replays windows, the newest first, until the time of the step is
// over. After an error the windows that were done stay done.
func (t *aggregatesPast) Step(ctx context.Context, r past.Range, cursor json.RawMessage) (s past.Step, err error) {
	var c windowsCursor
	if err := json.Unmarshal(cursor, &c); err != nil {
		return past.Step{}, fmt.Errorf("%w: the cursor %q: %w", past.ErrInvalid, cursor, err)
	}
	some := false
	for began := time.Now(); !s.Done && (!some || time.Since(began) < t.stepFor); {
		err := t.a.replayNext(ctx, r, &c, &s)
		if err != nil && !some {
			return past.Step{}, err
		}
		if err != nil {
			break // the next step tries again; the windows done are kept
		}
		some = true
	}
	if s.Left, err = t.left(r, &c); err != nil {
		return past.Step{}, err
	}
	s.Cursor = c.encode()
	return s, nil
}

// replayNext writes the rows of the newest window that is left, and adds its counts to s.
func (a *Aggregates) replayNext(ctx context.Context, r past.Range, c *windowsCursor, s *past.Step) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer a.leave()
	a.rows.known = nil // someone may have dropped fields in InfluxDB
	if err := a.knowEdges(); err != nil {
		return err
	}
	var next *window
	inMemory := false
	for name, e := range a.edges {
		if !r.Takes(name) {
			continue
		}
		w, in, err := a.newest(e, r.From.UnixNano(), c.before(name))
		if err != nil {
			return err
		}
		if w != nil && (next == nil || w.start > next.start || w.start == next.start && name > next.edge.name) {
			next, inMemory = w, in
		}
	}
	if s.Done = next == nil; s.Done {
		return nil
	}
	if err := a.replayWindow(ctx, r, next, inMemory, c, s); err != nil {
		return err
	}
	c.done(next.edge.name, next.start)
	return nil
}

// newest finds the newest window of an edge that ends after from and begins earlier than before, in
// memory or else in the index; nil if there is none. inMemory reports whether memory has all of it.
func (a *Aggregates) newest(of *edgeWindows, from, before int64) (w *window, inMemory bool, err error) {
	e, ok, err := a.index.newest(of.name, before)
	if err != nil {
		return nil, false, err
	}
	if ok && e.end > from {
		w = &window{edge: of, start: e.start, end: e.end, records: e.records}
	}
	for _, m := range of.windows {
		if m.start < before && m.end > from && (w == nil || m.start >= w.start) {
			w, inMemory = m, a.complete(m)
		}
	}
	return w, inMemory, nil
}

// replayWindow writes the rows of a window again.
func (a *Aggregates) replayWindow(ctx context.Context, r past.Range, w *window, inMemory bool, c *windowsCursor, s *past.Step) error {
	seen := s.Seen.Add(past.Stretch{From: w.start, To: w.end}, r.Quiet)
	if !inMemory {
		// This is also the case while the fold has not reached the end of the extents: all extents
		// are counted here.
		w = &window{edge: w.edge, start: w.start, end: w.end, records: w.records, indexed: w.records.Last(), closed: true, blocks: make(map[string]*block)}
		defer a.release(w)
		missing, err := a.countRecords(ctx, w, w.records, true)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			if len(c.Lost) == 0 {
				s.Notes = append(s.Notes, fmt.Sprintf(
					"the journal has dropped records of some windows; those stay as they are: the newest is that of %s", windowName(w.start)))
			}
			s.Lost += c.lose(missing)
			s.Seen = seen
			return nil
		}
	}
	did := past.Counts{Events: w.events, Readings: w.readings()}
	switch {
	case a.o.Retention > 0 && w.end < a.o.Now().Add(-a.o.Retention).UnixNano():
		did.Expired = did.Readings
	case r.DryRun:
		did.Points = w.points()
	default:
		before := a.sink.tally
		if err := a.rewrite(ctx, w); err != nil {
			return err
		}
		after := a.sink.tally
		did.Points, did.Refused, did.Expired = after.written-before.written, after.refused-before.refused, after.dropped-before.dropped
	}
	s.Add(did)
	s.Seen = seen
	return nil
}

// rewrite writes all rows of a window, and replaces the window's rejects by the rows refused now.
func (a *Aggregates) rewrite(ctx context.Context, w *window) error {
	a.mu.Lock()
	for _, b := range w.blocks {
		for i := range b.accs {
			if b.accs[i].count > 0 {
				b.accs[i].dirty = true
				w.touch(b)
			}
		}
	}
	a.mu.Unlock()
	still, err := a.writeDirty(ctx, []*window{w}, all, 0)
	if err != nil {
		return err // a window in memory is dirty now, and written when it is due
	}
	if a.o.Rejects == nil {
		return nil
	}
	still = still[:min(len(still), maxStill)]
	sign(a.log, a.Name(), a.o.Now(), still)
	start := time.Unix(0, w.start)
	return a.o.Rejects.Replace(a.Name(), func(rej projector.Reject) bool { return rej.Edge == w.edge.name && rej.Window.Equal(start) }, still...)
}

// readings counts a window's readings; points counts the points that all its rows make.
func (w *window) readings() uint64 {
	var n uint64
	for _, b := range w.blocks {
		for i := range b.accs {
			n += uint64(b.accs[i].count)
		}
	}
	return n
}

func (w *window) points() uint64 {
	var points uint64
	for _, b := range w.blocks {
		for _, set := range b.relay.Sets {
			stats := 0
			for _, s := range set.Series {
				if int(s.Index) < len(b.accs) && b.accs[s.Index].count > 0 && s.Stat != timeKey {
					stats++
				}
			}
			points += uint64((stats + newStats - 1) / newStats)
		}
	}
	return points
}
