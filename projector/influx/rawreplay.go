package influx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
	"github.com/nanopack/pulse/projector/replay"
)

const (
	// A step of a raw replay goes over at most maxStepRecords, and over so many that it has about stepReadings readings, but
	// not less than minStepRecords: it is saved and can be slowed down a few times a second.
	maxStepRecords = 20_000
	minStepRecords = 200
	stepReadings   = 200_000
	// maxStill bounds the rejects of a step; a list of rejects holds no more.
	maxStill = 1000
)

// rawTarget replays raw points. They need no order, so it has a Raw of its own.
type rawTarget struct {
	o       RawOptions
	journal projector.Source
	index   windowIndex
}

// NewRawReplay returns the target "raw": it writes the points of the events in a range of time again, as Raw does, and
// clears from the rejects what is not refused any more. Events are found by the time at which they were stored, a minute
// more on both sides, and through the index of windows in db (nil: there is none), which knows where events are that
// came late or from a clock that was wrong. A series that InfluxDB refuses is offered again for each hour: InfluxDB decides
// by shards. o is as for NewRaw, but its Registerer is not used: package replay counts.
func NewRawReplay(o RawOptions, from projector.Source, db *bbolt.DB) (replay.Target, error) {
	o.Registerer = nil
	if _, err := NewRaw(o); err != nil {
		return nil, err
	}
	if from == nil {
		return nil, errors.New("influx: a replay needs a journal")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &rawTarget{o: o, journal: from, index: windowIndex{db: db}}, nil
}

// Name is "raw".
func (t *rawTarget) Name() string { return "raw" }

// Persist implements replay.Persister.
func (t *rawTarget) Persist(ctx context.Context) error { return t.o.Store.Flush(ctx, PolicyRaw) }

// Run implements replay.Target.
func (t *rawTarget) Run(r replay.Range) replay.Run {
	return &rawRun{rawTarget: t, dry: r.DryRun, from: r.From, to: r.To, quiet: r.Quiet, records: 2000}
}

// rawCursor is what is left to do.
type rawCursor struct {
	// Ranges are the records, oldest first.
	Ranges [][2]uint64 `json:"ranges"`
	// Newest is the newest record of the range that was offered.
	Newest uint64 `json:"newest,omitempty"`
}

func (c *rawCursor) encode() json.RawMessage {
	b, _ := json.Marshal(c) // numbers always encode
	return b
}

// rawRun is one replay.
type rawRun struct {
	*rawTarget
	dry      bool
	from, to time.Time
	quiet    time.Duration
	raw      *Raw
	records  uint64 // of the next step
	step     *rawStep
}

// rawStep is a row of records under way. It outlives a failure: the next try goes on where it was.
type rawStep struct {
	replay.Counts
	cursor       string // that it was begun with
	journal.Span        // the records
	next         uint64
	newest       uint64
	seen         replay.Seen

	refusals map[*lookup.Series[struct{}, rawSeries]]hourRefused
	listed   map[rejected]bool // the rejects of these records as the step found them
	offered  map[uint64]bool   // by record, if one was listed: it was gone over
	still    []projector.Reject
}

type hourRefused struct {
	hour   int64
	reason string
}

// rejected tells rejects apart.
type rejected struct {
	seq         uint64
	relay, stat string
}

// Plan implements replay.Run.
func (r *rawRun) Plan(ctx context.Context) (replay.Plan, error) {
	state, err := r.journal.State(ctx)
	if err != nil {
		return replay.Plan{}, err
	}
	first, err := firstAt(ctx, r.journal, state, r.from.Add(-clockSlack))
	if err != nil {
		return replay.Plan{}, err
	}
	end, err := firstAt(ctx, r.journal, state, r.to.Add(clockSlack))
	if err != nil {
		return replay.Plan{}, err
	}
	var list []journal.Span
	if r.index.db != nil {
		err := r.index.overlapping(r.from.UnixNano(), r.to.UnixNano(), func(e indexEntry) { list = append(list, e.records...) })
		if err != nil {
			return replay.Plan{}, err
		}
	}
	found := journal.Union(list)
	var p replay.Plan
	if state.FirstSeq > 1 {
		p.Lost = found.Within(journal.Span{First: 1, Last: state.FirstSeq - 1}).Records()
	}
	if first < end {
		found = found.Add(journal.Span{First: first, Last: end - 1})
	}
	var c rawCursor
	for _, x := range found.Within(journal.Span{First: max(state.FirstSeq, 1), Last: state.LastSeq}).Join(extentGap).AtMost(maxRanges) {
		c.Ranges = append(c.Ranges, [2]uint64{x.First, x.Last})
	}
	p.Cursor, p.Left = c.encode(), c.left()
	p.Notes = extentNotes(state, r.from, r.to)
	if oldest := r.o.Now().Add(-r.o.Retention); r.o.Retention > 0 && r.from.Before(oldest) {
		p.Notes = append(p.Notes, fmt.Sprintf("InfluxDB keeps readings for %v; older ones are counted as expired", r.o.Retention))
	}
	return p, nil
}

func (c *rawCursor) left() uint64 {
	var n uint64
	for _, x := range c.Ranges {
		n += x[1] - x[0] + 1
	}
	return n
}

// Step implements replay.Run.
func (r *rawRun) Step(ctx context.Context, cursor json.RawMessage) (replay.Step, error) {
	var c rawCursor
	if err := json.Unmarshal(cursor, &c); err != nil {
		return replay.Step{}, fmt.Errorf("%w: the cursor %q: %w", replay.ErrInvalid, cursor, err)
	}
	if len(c.Ranges) == 0 {
		return replay.Step{Done: true}, nil
	}
	if r.step == nil || r.step.cursor != string(cursor) {
		if err := r.begin(&c, string(cursor)); err != nil {
			return replay.Step{}, err
		}
	}
	s := r.step
	err := readRange(ctx, r.journal, journal.Span{First: s.next, Last: s.Last}, func(records []journal.Record, missing uint64) error {
		err := r.apply(ctx, records)
		if err == nil {
			s.Lost += missing
			if s.next += missing; len(records) > 0 {
				s.next = records[len(records)-1].Seq + 1
			}
		}
		return err
	})
	if err != nil {
		return replay.Step{}, err
	}
	if err := r.relist(); err != nil {
		return replay.Step{}, err
	}
	r.step = nil
	r.records = min(max(stepReadings*(s.Last-s.First+1)/max(s.Readings, 1), minStepRecords), maxStepRecords)
	c.Newest = max(c.Newest, s.newest)
	if last := &c.Ranges[len(c.Ranges)-1]; s.First > last[0] {
		last[1] = s.First - 1
	} else {
		c.Ranges = c.Ranges[:len(c.Ranges)-1]
	}
	return replay.Step{Counts: s.Counts, Cursor: c.encode(), Done: len(c.Ranges) == 0, Left: c.left(), Seen: s.seen}, nil
}

// begin begins with the newest records that are left.
func (r *rawRun) begin(c *rawCursor, cursor string) error {
	if r.raw == nil && !r.dry {
		raw, err := NewRaw(r.o)
		if err != nil {
			return fmt.Errorf("%w: %w", replay.ErrInvalid, err) // it was checked before
		}
		r.raw = raw
	}
	last := c.Ranges[len(c.Ranges)-1]
	x := journal.Span{First: last[0], Last: last[1]}
	if x.Last-x.First >= r.records {
		x.First = x.Last - r.records + 1
	}
	s := &rawStep{cursor: cursor, Span: x, next: x.First, newest: c.Newest, refusals: make(map[*lookup.Series[struct{}, rawSeries]]hourRefused)}
	if r.o.Rejects != nil && !r.dry {
		list, err := r.o.Rejects.List()
		if err != nil {
			return err
		}
		s.listed, s.offered = make(map[rejected]bool), make(map[uint64]bool)
		for _, rej := range list {
			if rej.Projection == r.raw.Name() && rej.Seq >= x.First && rej.Seq <= x.Last {
				s.listed[rejected{rej.Seq, rej.Relay, rej.Stat}] = true
				s.offered[rej.Seq] = false
			}
		}
	}
	if r.raw != nil {
		r.raw.done, r.raw.again = x.First-1, s
	}
	r.step = s
	return nil
}

// apply writes the events of the range among the records, or counts them.
func (r *rawRun) apply(ctx context.Context, records []journal.Record) error {
	s := r.step
	from, to := r.from.UnixNano(), r.to.UnixNano()
	oldest := int64(math.MinInt64)
	if r.o.Retention > 0 {
		oldest = r.o.Now().Add(-r.o.Retention).UnixNano()
	}
	ours := records[:0:0]
	var c replay.Counts
	var seen replay.Seen
	for _, rec := range records {
		if rec.Event == nil || rec.Event.Time < from || rec.Event.Time >= to {
			continue
		}
		n := uint64(rec.Event.Readings())
		c.Events++
		c.Readings += n
		seen = seen.Add(replay.Stretch{From: rec.Event.Time, To: rec.Event.Time}, r.quiet)
		if r.dry && rec.Event.Time < oldest {
			c.Expired += n
		} else if r.dry {
			c.Points += n
		}
		ours = append(ours, rec)
	}
	if len(ours) == 0 {
		return nil
	}
	if r.raw != nil {
		before := r.raw.sink.tally
		_, err := r.raw.Apply(ctx, ours)
		after := r.raw.sink.tally // what a batch that failed has written is not written again
		s.Points += after.written - before.written
		s.Expired += after.dropped - before.dropped
		s.Refused += after.refused - before.refused
		if err != nil {
			return err
		}
	}
	s.Events += c.Events
	s.Readings += c.Readings
	s.Points += c.Points
	s.Expired += c.Expired
	for _, x := range seen {
		s.seen = s.seen.Add(x, r.quiet)
	}
	for i := range ours {
		if _, ok := s.offered[ours[i].Seq]; ok {
			s.offered[ours[i].Seq] = true
		}
	}
	s.newest = max(s.newest, ours[len(ours)-1].Seq)
	return nil
}

// skip says whether a reading is left alone because InfluxDB has just refused its series in that hour: a shard holds
// whole hours and refuses all of a series or nothing.
func (s *rawStep) skip(seq uint64, at int64, series *lookup.Series[struct{}, rawSeries]) bool {
	if len(s.refusals) == 0 {
		return false
	}
	refused, ok := s.refusals[series]
	if !ok || refused.hour != floor.Div(at, int64(time.Hour)) {
		return false
	}
	if key := (rejected{seq, series.Set.Relay.ID, series.Stat}); s.listed[key] {
		s.take([]projector.Reject{{Seq: seq, Relay: key.relay, Stat: key.stat, Reason: refused.reason}})
	}
	return true
}

func (s *rawStep) refuse(series *lookup.Series[struct{}, rawSeries], at int64, reason string) {
	s.refusals[series] = hourRefused{floor.Div(at, int64(time.Hour)), reason}
}

// take notes what is still refused.
func (s *rawStep) take(rejects []projector.Reject) {
	s.still = append(s.still, rejects[:min(len(rejects), maxStill-len(s.still))]...)
}

// relist puts the list of rejects right for the records of the step.
func (r *rawRun) relist() error {
	s := r.step
	if r.o.Rejects == nil || r.dry || len(s.listed)+len(s.still) == 0 {
		return nil
	}
	sign(r.raw.o.Logger, r.raw.Name(), r.o.Now(), s.still)
	return r.o.Rejects.Replace(r.raw.Name(), func(rej projector.Reject) bool {
		return s.offered[rej.Seq] && rej.To <= s.newest
	}, s.still...)
}
