package projector

import (
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
)

// applyAll applies a batch, however long it takes. It returns early only when the runner is
// stopped.
func (r *Runner) applyAll(records []journal.Record) {
	if !r.draining() && r.progress.behind() >= 2*uint64(r.o.BatchRecords) {
		r.intake.readAhead(r.idle)
	}
	r.account.Unreadable(records)
	if t := timeOf(records); t != 0 {
		r.progress.setOldest(time.Unix(0, t))
	}
	if !r.apply(records) {
		return
	}
	r.works = true
	if r.checkpoint.due(records) {
		r.checkpoint.saveOrLog(r.ctx)
	}
}

// apply applies records, in halves if the sink refuses one of them. It reports whether all of it is
// done.
func (r *Runner) apply(records []journal.Record) bool {
	last := records[len(records)-1].Seq
	err := r.retrier.attempt(func() error {
		position, err := r.o.Projection.Apply(r.ctx, records)
		if err == nil {
			r.account.Applied(len(records))
			r.progress.done(last, position, newest(records))
		}
		return err
	})
	refused, ok := errors.AsType[*RejectError](err)
	switch {
	case err == nil:
		return true
	case !ok:
		return false
	case len(records) > 1:
		half := len(records) / 2
		return r.apply(records[:half]) && r.apply(records[half:])
	}
	rej := Reject{Seq: last, Reason: refused.Error()}
	if e := records[0].Event; e != nil {
		rej.Edge, rej.Relay = e.Edge, e.Relay
	}
	r.account.Reject(rej)
	r.progress.pass(last)
	return true
}

// newest is the time of the last of the records that is an event and does not come from a relay's
// past; zero if none is.
func newest(records []journal.Record) time.Time {
	for i := len(records) - 1; i >= 0; i-- {
		if e := records[i].Event; e != nil && !e.Past {
			return time.Unix(0, e.Time)
		}
	}
	return time.Time{}
}

// passGap goes on after records that are missing, or at the journal's end if that is before the
// position.
func (r *Runner) passGap(g *journal.GapError) {
	if g.Reason != journal.GapRewound {
		r.account.Gap(g, runnerGapMessage)
		r.progress.pass(g.To)
		return
	}
	// The journal is shorter than it was: what the projection holds in memory may be gone from it.
	r.checkpoint.setBack(min(g.From-1, r.progress.applied()))
	r.closeReader()
	r.retrier.attempt(func() error {
		if err := r.checkpoint.save(r.ctx); err != nil {
			return err
		}
		state, err := r.o.Journal.State(r.ctx)
		if err != nil {
			return err
		}
		return r.begin(r.ctx, state)
	})
}

// jump leaves the records up to the journal's end to the backlog and goes on there, if the end is
// far away. It is called with records at hand, and after a batch was applied: so the sink works,
// and the reader knows of no shorter journal. It reports whether the runner jumped.
func (r *Runner) jump() bool {
	applied := r.progress.applied()
	if r.o.Backlog == nil || !r.works || r.progress.behind() <= r.o.JumpBehind || r.progress.position() != applied || r.draining() {
		return false
	}
	state, err := stateSoon(r.ctx, r.o.Journal)
	if err != nil || state.LastSeq <= applied+r.o.JumpBehind {
		return false
	}
	r.works = false // not again before the next batch was applied
	if !r.checkpoint.leave(r.ctx, state) {
		return false
	}
	r.closeReader()
	return true
}

// rewind goes back, if that was asked for.
func (r *Runner) rewind() {
	if !r.checkpoint.rewinding.Load() {
		return
	}
	r.log.Warn("the journal is projected again from its first record on")
	r.closeReader()
	r.retrier.attempt(func() error {
		state, err := r.o.Journal.State(r.ctx)
		if err != nil {
			return err
		}
		r.checkpoint.restart(max(state.FirstSeq, 1) - 1)
		r.works, r.exhausted = false, false
		if err := r.begin(r.ctx, state); err != nil {
			return err
		}
		r.checkpoint.rewinding.Store(false)
		return nil
	})
}
