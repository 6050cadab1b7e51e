package link

import (
	"context"
	"math"

	"github.com/nanopack/pulse/journal"
)

// Journal is the hub's journal; *[journal.Journal] is the implementation.
type Journal interface {
	// AppendInOrder stores records in order, or a first part of them and an error.
	AppendInOrder(ctx context.Context, records []journal.Record) (int, error)
	// LastOf and NextOf find records of an edge: the newest, and the first from a number on.
	LastOf(ctx context.Context, edge string) (journal.Record, bool, error)
	NextOf(ctx context.Context, edge string, seq uint64) (journal.Record, bool, error)
	// LastSeq is the number of the newest durable event.
	LastSeq() uint64
	// State tells which the oldest is.
	State(ctx context.Context) (journal.State, error)
}

// nameOf is what an event of an edge is known by. It is zero for a record that cannot be read.
func nameOf(rec *journal.Record) event {
	switch {
	case rec.Event != nil:
		return event{uint64(rec.Event.Origin), rec.Event.Relay, rec.Event.Time}
	case rec.Relay != nil:
		return event{uint64(rec.Relay.Origin), rec.Relay.Relay, rec.Relay.Time}
	}
	return event{}
}

// newest returns the newest event of an edge that the hub has, and the number of its record, zero if
// there is none. It may be one that retention has dropped from the hub's journal since.
func newest(ctx context.Context, j Journal, edge string, s *stored) (event, uint64, error) {
	rec, ok, err := j.LastOf(ctx, edge)
	if err != nil {
		return event{}, 0, err
	}
	if !ok {
		st, err := j.State(ctx)
		if err != nil || s.TipRecord >= st.FirstSeq { // it is lost, and comes again
			return event{}, 0, err
		}
		return s.Tip, s.TipRecord, nil
	}
	if e := nameOf(&rec); e.Origin > 0 {
		return e, rec.Seq, nil
	}
	// It is damaged. What is before it is not, or comes once more.
	list := s.known(event{}, rec.Seq)
	e, err := findUpTo(ctx, j, edge, list, list[len(list)-1].Start, rec.Seq, math.MaxUint64)
	return e, rec.Seq, err
}

// findUpTo returns the last event of an edge up to the number origin in one of the histories, named by
// its Start, and those that it goes on from. last is the hub's newest record of the edge. The event is
// zero if the hub has none (any more).
func findUpTo(ctx context.Context, j Journal, edge string, list []history, name, last, origin uint64) (event, error) {
	for k := len(list) - 1; k >= 0; k-- {
		h, end := list[k], last
		if k < len(list)-1 {
			end = list[k+1].Start - 1
		}
		if h.Start != name {
			continue
		}
		if h.At <= origin {
			e, err := search(ctx, j, edge, h.Start, end, origin)
			if err != nil || e.Origin > 0 {
				return e, err
			}
		}
		name = h.From
		origin = min(origin, h.At-1) // what follows in an older history is not of this one
	}
	return event{}, nil
}

// search finds the last event up to origin among the records from and to of the hub's journal. There
// the numbers of the edge rise.
func search(ctx context.Context, j Journal, edge string, from, to, origin uint64) (best event, err error) {
	for from <= to {
		middle := from + (to-from)/2
		rec, ok, err := j.NextOf(ctx, edge, middle)
		if err != nil {
			return event{}, err
		}
		e := nameOf(&rec)
		switch {
		case !ok, rec.Seq > to, e.Origin > origin:
			to = middle - 1
		case e.Origin == 0: // damaged: the one after it says more
			from = rec.Seq + 1
		default:
			best, from = e, rec.Seq+1
		}
	}
	return best, nil
}
