package projector

import (
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
)

// applyAll applies a batch, however long it takes. It returns early only when the runner is
// stopped.
func (r *Runner) applyAll(records []journal.Record) {
	if !r.draining() && r.behind() >= 2*uint64(r.o.BatchRecords) {
		r.readAhead(r.idle)
	}
	r.account.Unreadable(records)
	if t := timeOf(records); t != 0 {
		r.setOldest(time.Unix(0, t))
	}
	if !r.apply(records) {
		return
	}
	r.account.Applied(len(records))
	for i := len(records) - 1; i >= 0; i-- {
		if e := records[i].Event; e != nil {
			at := time.Unix(0, e.Time)
			r.update(func(s *Status) { s.AppliedTime = at.UTC() })
			r.setOldest(at) // about: the next is not read yet
			break
		}
	}
	r.works = true
	r.advanced()
	if time.Since(r.savedAt) >= r.o.SaveEvery {
		r.saveOrLog()
	}
}

// apply applies records, in halves if the sink refuses one of them. It reports whether all of it is
// done.
func (r *Runner) apply(records []journal.Record) bool {
	last := records[len(records)-1].Seq
	var position uint64
	err := r.attempt(func() (err error) {
		position, err = r.o.Projection.Apply(r.ctx, records)
		return err
	})
	refused, ok := errors.AsType[*RejectError](err)
	switch {
	case err == nil:
		r.applied = last
		r.place.move(position)
		return true
	case !ok:
		return false
	case len(records) > 1:
		half := len(records) / 2
		return r.apply(records[:half]) && r.apply(records[half:])
	}
	rej := Reject{Seq: last, Reason: refused.Error()}
	if e := records[0].Event; e != nil {
		rej.Relay = e.Relay
	}
	r.account.Reject(rej)
	r.place.pass(last)
	return true
}

// passGap goes on after records that are missing, or at the journal's end if that is before the
// position.
func (r *Runner) passGap(g *journal.GapError) {
	if g.Reason != journal.GapRewound {
		r.account.Gap(g, runnerGapMessage)
		r.place.pass(g.To)
		return
	}
	// The journal is shorter than it was: what the projection holds in memory may be gone from it.
	r.setBack(min(g.From-1, r.applied))
	r.closeReader()
	r.attempt(func() error {
		if err := r.save(); err != nil {
			return err
		}
		state, err := r.o.Journal.State(r.ctx)
		if err != nil {
			return err
		}
		return r.begin(r.ctx, state)
	})
}

const runnerGapMessage = "records are missing from the journal; the projection goes on behind them"

// timeOf is the time of the first of the records that has one, ns since 1970; 0 if none has.
func timeOf(records []journal.Record) int64 {
	for i := range records {
		switch rec := &records[i]; {
		case rec.Event != nil:
			return rec.Event.Time
		case rec.Relay != nil:
			return rec.Relay.Time
		}
	}
	return 0
}
