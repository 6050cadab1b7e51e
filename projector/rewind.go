package projector

import "time"

// Rewind has the runner project the whole journal again, from its first record
// on: its sink lost what it had. It returns when that is certain, also over a
// crash, and the runner begins as soon as the batch under way is applied. What
// its backlog had left is part of that, and forgotten. It may be called from
// any goroutine, the projection's own and that of its backlog among them.
func (r *Runner) Rewind() error {
	if r.o.Positions == nil {
		return nil // it begins anew at every start anyway
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.rewinding.Store(true)
	if b := r.o.Backlog; b != nil {
		return b.cut(0, 0)
	}
	return r.o.Positions.Save(r.o.Projection.Name(), 0)
}

// rewind goes back, if that was asked for.
func (r *Runner) rewind() {
	if !r.rewinding.Load() {
		return
	}
	r.log.Warn("the journal is projected again from its first record on")
	r.closeReader()
	r.attempt(func() error {
		state, err := r.o.Journal.State(r.ctx)
		if err != nil {
			return err
		}
		first := max(state.FirstSeq, 1) - 1
		r.applied, r.position = first, first
		r.saved, r.isSetBack, r.works, r.exhausted = 0, false, false, false
		r.setOldest(time.Time{})
		if err := r.begin(r.ctx, state); err != nil {
			return err
		}
		r.rewinding.Store(false)
		return nil
	})
	r.advanced(r.behind())
}
