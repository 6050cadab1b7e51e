package influx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
)

const (
	// clockSlack is by how much an event's time may differ from the time at which it was stored.
	clockSlack = time.Minute
	// maxRanges bounds the spans of records of one replay.
	maxRanges = 64
	// maxStill bounds the rejects of a chunk; a list of rejects holds no more.
	maxStill = 1000
)

// RawPast goes over past records for Raw, with a memory of its own. It fills in the records that an
// outage left out, and is the replay "raw". It is a past.View, for one goroutine.
//
// A replay writes the points of the events in a range of time again, as Raw does, and removes from
// the rejects the readings that are not refused any more. Each chunk offers a series that InfluxDB
// refused again, for each hour.
type RawPast struct {
	w       *rawWriter
	journal projector.Source
	index   windowIndex

	backlog, replay *rawCounters

	// These fields belong to the current chunk, if it is a replay's.
	chunk   past.Chunk
	listed  map[rejected]bool // the rejects of its records before the chunk
	offered map[uint64]bool   // by sequence of listed: the record was applied
	still   []projector.Reject
	newest  uint64 // the newest record offered
}

// rejected identifies a reject.
type rejected struct {
	seq   uint64
	relay codec.RelayKey
	stat  string
}

// NewRawPast returns the RawPast that goes with NewRaw(o). db holds the index of windows, which
// knows the records of events that came late or from a wrong clock (nil: there is no index).
func NewRawPast(o RawOptions, from projector.Source, db *bbolt.DB) (*RawPast, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if from == nil {
		return nil, errors.New("influx: going over the past needs a journal")
	}
	w := newRawWriter(o)
	// Package past counts what replays write, so these counters are not registered with the others.
	return &RawPast{w: w, journal: from, index: windowIndex{db: db}, backlog: w.counters, replay: newRawCounters(prometheus.NewRegistry())}, nil
}

// Name is "raw".
func (p *RawPast) Name() string { return "raw" }

// Projection is the name of Raw's projection.
func (p *RawPast) Projection() string { return rawProjection }

// Persist makes the points durable.
func (p *RawPast) Persist(ctx context.Context) error { return p.w.o.Store.Flush(ctx, PolicyRaw) }

// Find implements past.View. It finds events by the time at which they were stored, with a minute
// more on both sides, and through the index of windows.
func (p *RawPast) Find(ctx context.Context, r past.Range) (past.Found, error) {
	state, err := p.journal.State(ctx)
	if err != nil {
		return past.Found{}, err
	}
	first, err := projector.FirstAt(ctx, p.journal, state, r.From.Add(-clockSlack))
	if err != nil {
		return past.Found{}, err
	}
	end, err := projector.FirstAt(ctx, p.journal, state, r.To.Add(clockSlack))
	if err != nil {
		return past.Found{}, err
	}
	var list []journal.Span
	if p.index.db != nil {
		edges, err := p.index.edges()
		if err != nil {
			return past.Found{}, err
		}
		for _, edge := range edges {
			if !r.Takes(edge) {
				continue
			}
			err := p.index.overlapping(edge, r.From.UnixNano(), r.To.UnixNano(), func(e indexEntry) { list = append(list, e.records...) })
			if err != nil {
				return past.Found{}, err
			}
		}
	}
	spans := journal.Union(list)
	found := past.Found{Notes: extentNotes(state, r.From, r.To)}
	if state.FirstSeq > 1 {
		found.Lost = spans.Within(journal.Span{First: 1, Last: state.FirstSeq - 1}).Records()
	}
	if first < end {
		spans = spans.Add(journal.Span{First: first, Last: end - 1})
	}
	found.Spans = spans.Within(journal.Span{First: max(state.FirstSeq, 1), Last: state.LastSeq}).Join(extentGap).AtMost(maxRanges)
	if keep := p.w.o.Retention; keep > 0 && r.From.Before(p.w.o.Now().Add(-keep)) {
		found.Notes = append(found.Notes, fmt.Sprintf("InfluxDB keeps readings for %v; older ones are counted as expired", keep))
	}
	return found, nil
}

// isReplay reports whether the chunk under way is a replay's.
func (p *RawPast) isReplay() bool { return !p.chunk.To.IsZero() }

// Begin implements past.Sink.
func (p *RawPast) Begin(c past.Chunk) error {
	p.chunk, p.newest = c, c.Newest
	p.listed, p.offered, p.still = make(map[rejected]bool), make(map[uint64]bool), nil
	p.w.done = c.First - 1
	if !p.isReplay() {
		p.w.countWith(p.backlog)
		return nil
	}
	p.w.countWith(p.replay)
	p.w.round++
	if p.w.o.Rejects == nil || c.DryRun {
		return nil
	}
	list, err := p.w.o.Rejects.List()
	if err != nil {
		return err
	}
	for _, rej := range list {
		if rej.Projection == rawProjection && rej.Seq >= c.First && rej.Seq <= c.Last {
			p.listed[rejected{rej.Seq, codec.RelayKey{Edge: rej.Edge, Relay: rej.Relay}, rej.Stat}] = true
			p.offered[rej.Seq] = false
		}
	}
	return nil
}

// Apply implements past.Sink.
func (p *RawPast) Apply(ctx context.Context, records []journal.Record) (past.Counts, error) {
	if p.chunk.DryRun {
		return p.count(records), nil
	}
	done, err := p.w.write(ctx, records)
	if !p.isReplay() {
		list(p.w.o.Rejects, p.w.o.Logger, rawProjection, p.w.o.Now(), done.rejects)
		return done.Counts, err
	}
	for _, o := range done.skipped {
		if p.listed[rejected{o.seq, o.series.Set.Relay.Key, o.series.Stat}] {
			done.rejects = append(done.rejects, o.reject(p.w.refused[o.series].reason))
		}
	}
	p.still = append(p.still, done.rejects[:min(len(done.rejects), maxStill-len(p.still))]...)
	if err != nil {
		return done.Counts, err
	}
	for i := range records {
		if _, ok := p.offered[records[i].Seq]; ok {
			p.offered[records[i].Seq] = true
		}
	}
	p.newest = max(p.newest, records[len(records)-1].Seq)
	return done.Counts, nil
}

// count counts what Apply would do.
func (p *RawPast) count(records []journal.Record) (c past.Counts) {
	oldest := int64(math.MinInt64)
	if keep := p.w.o.Retention; keep > 0 {
		oldest = p.w.o.Now().Add(-keep).UnixNano()
	}
	for i := range records {
		if n := uint64(records[i].Event.Readings()); records[i].Event.Time < oldest {
			c.Expired += n
		} else {
			c.Points += n
		}
	}
	return c
}

// End implements past.Sink. After a replay's chunk it replaces the rejects of the offered records:
// of these only the readings that were refused now stay listed.
func (p *RawPast) End() error {
	if p.w.o.Rejects == nil || len(p.listed)+len(p.still) == 0 {
		return nil
	}
	sign(p.w.o.Logger, rawProjection, p.w.o.Now(), p.still)
	return p.w.o.Rejects.Replace(rawProjection, func(rej projector.Reject) bool {
		return p.offered[rej.Seq] && rej.To <= p.newest && p.chunk.Takes(rej.Edge)
	}, p.still...)
}

// extentNotes return notes about the parts of a range before the first or after the last record of
// the journal; nil if there are none.
func extentNotes(state journal.State, from, to time.Time) []string {
	first, last := state.FirstTime, state.LastTime
	switch {
	case state.LastSeq == 0:
		return []string{"the journal is empty"}
	case first.IsZero() && state.FirstSeq <= 1:
		return nil
	case first.IsZero():
		return []string{fmt.Sprintf("the journal begins with record %d; what was before is not in it", state.FirstSeq)}
	case from.Before(first) && (state.FirstSeq > 1 || !first.Before(to)):
		return []string{fmt.Sprintf("the journal begins at %s; what was before is not in it", first.UTC().Format(time.RFC3339))}
	case !last.IsZero() && last.Before(from):
		return []string{fmt.Sprintf("the journal ends at %s", last.UTC().Format(time.RFC3339))}
	}
	return nil
}
