package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/replay"
)

const (
	// replayFor is for how long a Tick replays windows; the last one may take longer.
	replayFor = 300 * time.Millisecond
	// tickPatience is how long a replay waits for a Tick before it says that none comes.
	tickPatience = 30 * time.Second
)

// aggregatesTarget replays windows. Only the goroutine that folds the journal may write rows, or an older row could replace
// a newer one: so the target hands it requests.
type aggregatesTarget struct{ a *Aggregates }

// NewAggregatesReplay returns the target "aggregates": it writes the rows of the windows that have a part in a range of time
// again, whole, and clears from the rejects what is not refused any more. a must run: its Tick does the work, for some 300 ms
// a second. The windows are those in memory and in the index; a window whose records the journal has dropped in part stays as
// it is. Run's methods may be called from any goroutine.
func NewAggregatesReplay(a *Aggregates) replay.Target { return aggregatesTarget{a} }

// Name is "aggregates".
func (t aggregatesTarget) Name() string { return "aggregates" }

// Persist implements replay.Persister.
func (t aggregatesTarget) Persist(ctx context.Context) error { return t.a.Persist(ctx) }

// Run implements replay.Target.
func (t aggregatesTarget) Run(r replay.Range) replay.Run {
	return windowsRun{t.a, r.From.UnixNano(), r.To.UnixNano(), r.DryRun, r.Quiet}
}

// windowsRun is one replay.
type windowsRun struct {
	a        *Aggregates
	from, to int64
	dry      bool
	quiet    time.Duration
}

// windowsCursor is what is left to do.
type windowsCursor struct {
	// Before is the start of the last window that was done: what begins before it is left. Its unit is a nanosecond.
	Before int64 `json:"before"`
	// Lost are the records of windows that the journal does not have any more.
	Lost [][2]uint64 `json:"lost,omitempty"`
}

// windowsRequest asks Tick for a step.
type windowsRequest struct {
	windowsRun
	ctx    context.Context
	cursor windowsCursor
	limit  time.Duration     // after which no further window is begun
	reply  chan windowsReply // has room for it
}

type windowsReply struct {
	step replay.Step
	err  error
}

// Plan implements replay.Run.
func (r windowsRun) Plan(ctx context.Context) (replay.Plan, error) {
	state, err := r.a.o.Journal.State(ctx)
	if err != nil {
		return replay.Plan{}, err
	}
	c := windowsCursor{Before: r.to}
	left, err := r.left(&c)
	if err != nil {
		return replay.Plan{}, err
	}
	p := replay.Plan{Cursor: c.encode(), Left: left, Notes: extentNotes(state, time.Unix(0, r.from), time.Unix(0, r.to))}
	if oldest := r.a.o.Now().Add(-r.a.o.Retention); r.a.o.Retention > 0 && r.from < oldest.UnixNano() {
		p.Notes = append(p.Notes, fmt.Sprintf("InfluxDB keeps aggregates for %v; readings of windows that ended before are counted as expired", r.a.o.Retention))
	}
	return p, nil
}

// left is about how many records the windows have that are not done.
func (r windowsRun) left(c *windowsCursor) (uint64, error) {
	var list []journal.Span
	err := r.a.index.overlapping(r.from, c.Before, func(e indexEntry) { list = append(list, e.records...) })
	return journal.Union(list).Records(), err
}

func (c *windowsCursor) encode() json.RawMessage {
	b, _ := json.Marshal(c) // numbers always encode
	return b
}

// lose takes in records that are missing, and returns how many of them are new.
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

// Step implements replay.Run.
func (r windowsRun) Step(ctx context.Context, cursor json.RawMessage) (replay.Step, error) {
	q := &windowsRequest{windowsRun: r, ctx: ctx, limit: replayFor, reply: make(chan windowsReply, 1)}
	if err := json.Unmarshal(cursor, &q.cursor); err != nil {
		return replay.Step{}, fmt.Errorf("%w: the cursor %q: %w", replay.ErrInvalid, cursor, err)
	}
	patience := time.NewTimer(tickPatience)
	defer patience.Stop()
	select {
	case r.a.replays <- q:
	case <-patience.C:
		return replay.Step{}, errors.New("the live projection of the aggregates is catching up, failing or stopped; it goes first")
	case <-ctx.Done():
		return replay.Step{}, ctx.Err()
	}
	select {
	case done := <-q.reply:
		return done.step, done.err
	case <-ctx.Done():
		return replay.Step{}, ctx.Err()
	}
}

// serve does a step of a replay if one is asked for; failed is why Tick failed, if it did. What goes wrong is the replay's
// affair and not Tick's.
func (a *Aggregates) serve(ctx context.Context, failed error) {
	select {
	case q := <-a.replays:
		var done windowsReply
		if done.err = failed; failed == nil {
			done.step, done.err = a.replay(ctx, q)
		}
		q.reply <- done
	default:
	}
}

// replay does windows, the newest first, until the time of a step is over. An error is temporary: what was done is safe.
func (a *Aggregates) replay(ctx context.Context, q *windowsRequest) (s replay.Step, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	began, some, c := time.Now(), false, q.cursor
	a.rows.known = nil // somebody may have dropped fields
	for !s.Done && (!some || time.Since(began) < q.limit) {
		w, e, ok, err := a.newest(q.from, c.Before)
		switch {
		case err == nil && !ok:
			s.Done = true
		case err == nil:
			err = a.replayWindow(ctx, q, w, e, &c, &s)
		}
		if err != nil && !some {
			return replay.Step{}, err
		}
		if err != nil {
			break // it comes again, and what is done is not lost
		}
		if ok {
			c.Before, some = e.start, true
		}
	}
	if s.Left, err = q.left(&c); err != nil {
		return replay.Step{}, err
	}
	s.Cursor, s.Worked = c.encode(), max(time.Since(began), 1)
	return s, nil
}

// newest finds the newest window that reaches behind from and begins before a time: in memory, or else in the index.
func (a *Aggregates) newest(from, before int64) (w *window, e indexEntry, ok bool, err error) {
	e, ok, err = a.index.newest(before)
	if err != nil {
		return nil, e, false, err
	}
	ok = ok && e.end > from
	for _, m := range a.windows {
		if m.start < before && m.end > from && (!ok || m.start >= e.start) {
			w, e, ok = m, indexEntry{m.start, m.end, m.records}, true
		}
	}
	return w, e, ok, nil
}

// replayWindow writes the rows of a window again and adds up in s what it did. w is nil if it is not in memory.
func (a *Aggregates) replayWindow(ctx context.Context, q *windowsRequest, w *window, e indexEntry, c *windowsCursor, s *replay.Step) error {
	s.Seen = s.Seen.Add(replay.Stretch{From: e.start, To: e.end}, q.quiet)
	inMemory := w != nil && !w.frozen && a.head >= w.hold
	if !inMemory {
		// Also while the fold is on its way to the end of the extents: here all of them are counted.
		w = &window{start: e.start, end: e.end, records: e.records, indexed: e.records.Last(), closed: true, blocks: make(map[string]*block)}
		defer a.release(w)
		missing, err := a.load(ctx, w)
		if err != nil {
			return fmt.Errorf("counting the window of %s again: %w", windowName(e.start), err)
		}
		if len(missing) > 0 {
			if len(c.Lost) == 0 {
				s.Notes = append(s.Notes, fmt.Sprintf(
					"the journal has dropped records of some windows; those stay as they are: the newest is that of %s", windowName(e.start)))
			}
			s.Lost += c.lose(missing)
			return nil
		}
	}
	did := replay.Counts{Events: w.events, Readings: w.readings()}
	switch {
	case a.o.Retention > 0 && w.end < a.o.Now().Add(-a.o.Retention).UnixNano():
		did.Expired = did.Readings
	case q.dry:
		did.Points = w.points()
	default:
		before := a.sink.tally
		if err := a.rewrite(ctx, w, inMemory); err != nil {
			return err
		}
		after := a.sink.tally
		did.Points, did.Refused, did.Expired = after.written-before.written, after.refused-before.refused, after.dropped-before.dropped
	}
	s.Events += did.Events
	s.Readings += did.Readings
	s.Points += did.Points
	s.Expired += did.Expired
	s.Refused += did.Refused
	return nil
}

// rewrite writes all rows of a window and lists anew which of them are refused.
func (a *Aggregates) rewrite(ctx context.Context, w *window, inMemory bool) error {
	w.dirty = true
	for _, b := range w.blocks {
		for i := range b.accs {
			if b.accs[i].count > 0 {
				b.accs[i].dirty, b.dirty = true, true
			}
		}
	}
	var still []projector.Reject
	a.again = &still
	err := a.write(ctx, []*window{w})
	a.again = nil
	if err != nil {
		if inMemory && a.dirtySince.IsZero() {
			a.dirtySince = a.o.Now() // it is dirty now, and written with the others
		}
		return err
	}
	if a.o.Rejects == nil {
		return nil
	}
	sign(a.log, a.Name(), a.o.Now(), still)
	start := time.Unix(0, w.start)
	return a.o.Rejects.Replace(a.Name(), func(rej projector.Reject) bool { return rej.Window.Equal(start) }, still...)
}

// load counts all events of a window from the journal, and returns the records that it does not have.
func (a *Aggregates) load(ctx context.Context, w *window) (missing []journal.Span, err error) {
	for _, x := range w.records {
		next := x.First
		err := readRange(ctx, a.o.Journal, x, func(records []journal.Record, n uint64) error {
			if n > 0 {
				missing = append(missing, journal.Span{First: next, Last: next + n - 1})
				next += n
			}
			for i := range records {
				if rec := &records[i]; rec.Event != nil && w.contains(rec.Event.Time) && len(missing) == 0 {
					a.count(w, rec.Event, true)
				}
				next = records[i].Seq + 1
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// readings counts the readings of a window, points the points that all its rows are written as.
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
				if s.Index < len(b.accs) && b.accs[s.Index].count > 0 && s.Stat != timeKey {
					stats++
				}
			}
			points += uint64((stats + newStats - 1) / newStats)
		}
	}
	return points
}

func windowName(start int64) string { return time.Unix(0, start).UTC().Format(time.RFC3339) }
