package projector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/journal"
)

const (
	// saveEvery is how often a position is saved at most: each time costs an fsync.
	saveEvery = time.Second
	// persistPatience is how long a sink may take to make durable what it took.
	persistPatience = 30 * time.Second
	// jumpBehind is a second's work or so: less than that is not worth a transaction and a new
	// reader.
	jumpBehind = 5000
)

// place is where a runner is. All but rewinding and saving belongs to the runner's goroutine.
type place struct {
	applied  uint64 // the last record applied, or known to be lost
	position uint64 // what the projection said may be saved
	saved    uint64
	savedAt  time.Time
	cut      *uint64 // the journal's end, when it turned out to be before the position, and that is not saved yet

	// rewinding: Rewind was asked for and not done yet. The saved position is 0 until then.
	rewinding atomic.Bool
	// saving is held while the position is written, and checked whether it may be: nothing comes
	// between rewinding and a save.
	saving sync.Mutex
}

// move moves the position to what the projection says, as far as records are applied.
func (p *place) move(position uint64) { p.position = max(p.position, min(position, p.applied)) }

// pass leaves records up to seq behind. The position goes along unless the projection holds it
// back.
func (p *place) pass(seq uint64) {
	if p.position == p.applied {
		p.position = seq
	}
	p.applied = seq
}

// openPosition begins after the saved position.
func (r *Runner) openPosition(state journal.State) error {
	seq, err := r.o.Positions.Load(r.o.Projection.Name())
	if err != nil {
		return err
	}
	r.applied, r.position, r.saved = seq, seq, seq
	switch {
	case seq > state.LastSeq:
		r.setBack(state.LastSeq)
		return r.save() // before the numbers are used again
	case seq == 0 && state.FirstSeq > 1:
		r.applied = state.FirstSeq - 1 // what was dropped before there was a position is not missed
		r.position = r.applied
	}
	return nil
}

// setBack moves the position back to the journal's end. It is to be saved at once.
func (r *Runner) setBack(end uint64) {
	r.metrics.setBacks.Inc()
	r.account.Gap(&journal.GapError{From: end + 1, To: max(r.applied, end+1), Reason: journal.GapRewound}, runnerGapMessage)
	r.position = min(r.position, end)
	r.applied = r.position
	r.cut = &end
	r.knownEnd.Store(end)
	r.setOldest(time.Time{})
}

// save saves the position if it has moved, after what lies before it is durable.
func (r *Runner) save() error {
	if r.o.Positions == nil {
		return nil
	}
	if r.position > r.saved && !r.rewinding.Load() {
		if err := r.persist(); err != nil {
			return err
		}
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	cut := r.cut != nil && r.o.Backlog != nil
	if r.position == r.saved && !cut || r.rewinding.Load() {
		return nil
	}
	if cut {
		if err := r.o.Backlog.Cut(*r.cut, r.position); err != nil {
			return err
		}
	} else if err := r.o.Positions.Save(r.o.Projection.Name(), r.position); err != nil {
		r.account.NotSaved()
		return err
	}
	r.metrics.saves.Inc()
	r.saved, r.cut = r.position, nil
	return nil
}

// saveOrLog saves the position. If that fails the next tick tries again, and until then the old one
// is true enough.
func (r *Runner) saveOrLog() {
	r.savedAt = time.Now()
	if err := r.save(); err != nil {
		r.log.Error("the position cannot be saved", "error", err)
	}
}

// persist has the sink make durable what was applied. It is to be done also when the runner is
// stopped.
func (r *Runner) persist() error {
	p, ok := r.o.Projection.(Persister)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), persistPatience)
	defer cancel()
	return p.Persist(ctx)
}

// jump leaves the records up to the journal's end to the backlog and goes on there, if the end is
// far away. It is called with records at hand, and after a batch was applied: so the sink works,
// and the reader knows of no shorter journal. It reports whether the runner jumped.
func (r *Runner) jump() bool {
	b := r.o.Backlog
	if b == nil || !r.works || r.behind() <= r.o.JumpBehind || r.position != r.applied || r.draining() {
		return false
	}
	state, err := r.state()
	if err != nil || state.LastSeq <= r.applied+r.o.JumpBehind {
		return false
	}
	r.works = false                  // not again before the next batch was applied
	if err := r.save(); err != nil { // the position moves beyond what was applied: that has to be durable
		r.log.Error("the position cannot be saved", "error", err)
		return false
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	if r.rewinding.Load() {
		return false
	}
	left := journal.Span{First: r.applied + 1, Last: state.LastSeq}
	if err := b.Take(left); err != nil {
		if !errors.Is(err, ErrBacklogFull) {
			r.log.Error("what lies behind cannot be left to the backlog; the projection goes on with the oldest", "error", err)
		}
		return false
	}
	r.log.Info("the projection goes on at the journal's end; what lies behind is filled in", "from", left.First, "to", left.Last, "records", left.Records())
	r.metrics.jumps.Inc()
	r.closeReader()
	r.applied, r.position, r.saved = left.Last, left.Last, left.Last
	r.knownEnd.Store(left.Last)
	r.setOldest(state.LastTime)
	r.advanced()
	return true
}

// Rewind has the runner project the whole journal again, from its first record on: its sink lost
// what it had. It returns when that is certain, also over a crash, and the runner begins as soon as
// the batch under way is applied. What its backlog had left is part of that, and forgotten. It may
// be called from any goroutine, the projection's own and that of its backlog among them.
func (r *Runner) Rewind() error {
	if r.o.Positions == nil {
		return nil // it begins again at every start anyway
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	r.rewinding.Store(true)
	if b := r.o.Backlog; b != nil {
		return b.Cut(0, 0)
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
		r.saved, r.cut, r.works, r.exhausted = 0, nil, false, false
		r.setOldest(time.Time{})
		if err := r.begin(r.ctx, state); err != nil {
			return err
		}
		r.rewinding.Store(false)
		return nil
	})
	r.advanced()
}
