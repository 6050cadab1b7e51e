package projector

import (
	"context"

	"github.com/nanopack/pulse/journal"
)

// ranged says whether the runner applies a range of records and then ends.
func (r *Runner) ranged() bool { return r.o.Start.from == fromRange }

// within leaves out what does not belong to the range.
func (r *Runner) within(records []journal.Record) []journal.Record {
	for len(records) > 0 && records[len(records)-1].Seq > r.last {
		records = records[:len(records)-1]
	}
	return records
}

// passRangeGap counts what is missing of the range, and goes on behind it.
func (r *Runner) passRangeGap(g *journal.GapError) {
	if g.Reason == journal.GapRewound {
		r.log.Warn("the journal is shorter than it was; the range ends there", "from", r.o.Start.first, "to", r.last, "end", g.From-1)
		r.last = min(r.last, g.From-1)
		r.knownEnd.Store(r.last)
		return
	}
	missing := *g
	missing.From, missing.To = max(g.From, r.applied+1), min(g.To, r.last)
	if missing.From <= missing.To {
		r.gap(&missing)
		r.pass(missing.To)
	}
	r.advanced(r.behind())
}

// missRest is the end of a range of which the journal gives nothing more: it is shorter than it was, or has lost the last records.
func (r *Runner) missRest() {
	ctx, cancel := context.WithTimeout(r.ctx, drainPatience)
	defer cancel()
	state, err := r.o.Journal.State(ctx)
	if err != nil || r.reader.Pending() > 0 {
		return // it is asked again
	}
	if state.LastSeq < r.last {
		r.passRangeGap(&journal.GapError{From: state.LastSeq + 1, To: r.last, Reason: journal.GapRewound})
		return
	}
	r.passRangeGap(&journal.GapError{From: r.applied + 1, To: r.last, Reason: journal.GapLost})
}
