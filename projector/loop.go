package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

// drainPatience is how long a drain waits for records that the journal's end promises and that do not come:
// the journal has lost them then.
const drainPatience = 2 * time.Second

// open finds the beginning, has the projection begin there, and opens the reader.
func (r *Runner) open(ctx context.Context) error {
	state, err := r.o.Journal.State(ctx)
	if err != nil {
		return err
	}
	r.startEnd = state.LastSeq
	r.knownEnd.Store(state.LastSeq)
	switch r.o.Start.from {
	case fromEnd:
		r.applied, r.position = state.LastSeq, state.LastSeq
	case fromPosition:
		seq, err := r.o.Positions.Load(r.o.Projection.Name())
		if err != nil {
			return err
		}
		r.applied, r.position, r.saved = seq, seq, seq
		if seq > state.LastSeq {
			r.setBack(state.LastSeq)
			if err := r.save(); err != nil { // before the numbers are used again
				return err
			}
		} else if seq == 0 && state.FirstSeq > 1 {
			r.applied = state.FirstSeq - 1 // what was dropped before there was a position is not missed
			r.position = r.applied
		}
	case fromRange:
		r.last = min(r.o.Start.last, state.LastSeq)
		r.knownEnd.Store(r.last)
		r.applied, r.position = r.o.Start.first-1, r.o.Start.first-1
	}
	if err := r.begin(ctx, state); err != nil {
		return err
	}
	r.update(func(s *Status) { s.Position, s.Applied, s.State = r.position, r.applied, StateLive })
	return r.openReader()
}

// setBack moves the position back to the journal's end. It is to be saved at once.
func (r *Runner) setBack(end uint64) {
	r.metrics.setBacks.Inc()
	r.gap(&journal.GapError{From: end + 1, To: max(r.applied, end+1), Reason: journal.GapRewound})
	r.position = min(r.position, end)
	r.applied = r.position
	r.setBackTo, r.isSetBack = end, true
	r.knownEnd.Store(end)
	r.setOldest(time.Time{})
}

func (r *Runner) begin(ctx context.Context, state journal.State) error {
	if b, ok := r.o.Projection.(Beginner); ok {
		return b.Begin(ctx, Origin{Position: r.position, First: state.FirstSeq, Last: state.LastSeq})
	}
	return nil
}

func (r *Runner) openReader() (err error) {
	if r.searching() {
		r.reader, err = r.o.Journal.ReadFromTime(r.o.Start.time)
	} else {
		r.reader, err = r.o.Journal.ReadFrom(r.applied + 1)
	}
	return err
}

// searching says whether the runner starts from a time and has not found a record yet.
func (r *Runner) searching() bool { return r.o.Start.from == fromTime && r.applied == 0 }

// closeReader makes the next read open another.
func (r *Runner) closeReader() {
	if r.reader == nil {
		return
	}
	if err := r.reader.Close(); err != nil {
		r.log.Warn("closing the journal's reader failed", "error", err)
	}
	r.await()
	r.reader = nil
}

func (r *Runner) run() { r.finish(r.loop()) }

// loop runs until the runner is stopped, which is no error, or drained.
func (r *Runner) loop() error {
	for r.ctx.Err() == nil {
		if end, ok := r.end(); ok && (r.exhausted || r.applied >= end) && !r.rewinding.Load() {
			return r.flush()
		}
		r.step()
	}
	return nil
}

// end is where a drain or the range ends, and false if neither does.
func (r *Runner) end() (uint64, bool) {
	if r.ranged() {
		return r.last, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target, r.drain
}

// finish is the end of the runner: nothing else is under way.
func (r *Runner) finish(err error) {
	state := StateStopped
	if err == nil && r.ctx.Err() == nil {
		state = StateDrained
	}
	r.cancel()
	r.watching.Wait()
	r.closeReader()
	if serr := r.save(); serr != nil {
		err = errors.Join(err, serr)
	}
	r.mu.Lock()
	r.result = err
	r.mu.Unlock()
	r.update(func(s *Status) { s.State, s.Position, s.Applied = state, r.position, r.applied })
	close(r.done)
}

// step reads one batch and applies it, and ticks if it is time.
func (r *Runner) step() {
	r.rewind()
	records, err := r.read()
	gap, isGap := errors.AsType[*journal.GapError](err)
	switch {
	case err == nil:
		r.recovered()
		if r.ranged() {
			records = r.within(records)
		}
		if len(records) > 0 && !r.jump() {
			r.applyAll(records)
		}
		if r.ctx.Err() != nil {
			return // stopped in a back-off, perhaps: the status keeps the error
		}
	case r.ctx.Err() != nil:
		return
	case isGap:
		r.recovered()
		r.passGap(gap)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		r.recovered() // nothing came before the next tick, or a drain began
		if r.searching() && errors.Is(err, context.DeadlineExceeded) && r.nothingLeft() {
			r.pass(r.startEnd) // nothing in the journal is as new as the time to start from
		}
		if r.ranged() && errors.Is(err, context.DeadlineExceeded) && r.nothingLeft() {
			r.missRest()
		}
	default:
		r.failed(fmt.Errorf("reading the journal: %w", err))
		r.closeReader()
		return
	}
	if !time.Now().Before(r.nextTick) {
		r.tick()
	} else if err == nil && len(records) < r.o.BatchRecords && r.o.Linger > 0 && r.behind() == 0 && !r.rewinding.Load() {
		retry.Sleep(r.idle, min(r.o.Linger, time.Until(r.nextTick)))
	}
}

// read reads the next batch. It gives up when the next tick is due or a drain begins.
func (r *Runner) read() ([]journal.Record, error) {
	if r.reader == nil {
		if err := r.openReader(); err != nil {
			return nil, err
		}
	}
	if a := r.await(); a != nil && !errors.Is(a.err, context.DeadlineExceeded) && !errors.Is(a.err, context.Canceled) {
		return a.records, a.err
	}
	if !r.draining() {
		ctx, cancel := context.WithDeadline(r.idle, r.nextTick)
		defer cancel()
		return r.reader.Read(ctx, r.o.BatchRecords)
	}
	ctx, cancel := context.WithTimeout(r.ctx, drainPatience)
	defer cancel()
	records, err := r.reader.Read(ctx, r.o.BatchRecords)
	if err != nil && ctx.Err() != nil && r.ctx.Err() == nil && r.nothingLeft() {
		switch {
		case r.ranged():
			return nil, err // step sees that the rest is missing
		case !r.searching():
			r.log.Warn("the journal does not give its last records; they are lost", "from", r.applied+1)
		}
		r.exhausted = true
	}
	return records, err
}

// nothingLeft says whether the reader has seen everything. A journal that does not answer is no proof.
func (r *Runner) nothingLeft() bool {
	ctx, cancel := context.WithTimeout(r.ctx, drainPatience)
	defer cancel()
	_, err := r.o.Journal.State(ctx)
	return err == nil && r.reader.Pending() == 0
}

// applyAll applies a batch, however long it takes. It returns early only when the runner is stopped.
func (r *Runner) applyAll(records []journal.Record) {
	r.readAhead()
	r.rejectUnreadable(records)
	if t := timeOf(records); t != 0 {
		r.setOldest(time.Unix(0, t))
	}
	if !r.apply(records) {
		return
	}
	r.metrics.batches.Inc()
	r.metrics.records.Add(float64(len(records)))
	for i := len(records) - 1; i >= 0; i-- {
		if e := records[i].Event; e != nil {
			r.appliedTime = e.Time
			r.setOldest(time.Unix(0, e.Time)) // about: the next is not read yet
			break
		}
	}
	r.works = true
	r.advanced(r.behind())
	if time.Since(r.savedAt) >= r.o.SaveEvery {
		r.saveOrCount()
	}
}

// apply applies records, in halves if the sink refuses one of them. It says whether all of it is done.
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
		r.applied, r.position = last, max(r.position, min(position, last))
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
	r.reject(rej)
	r.pass(last)
	return true
}

// pass leaves records up to seq behind. The position goes along unless the projection holds it back.
func (r *Runner) pass(seq uint64) {
	if r.position == r.applied {
		r.position = seq
	}
	r.applied = seq
}

func (r *Runner) passGap(g *journal.GapError) {
	if r.ranged() {
		r.passRangeGap(g)
		return
	}
	if g.Reason != journal.GapRewound {
		r.gap(g)
		r.pass(g.To)
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

// rejectUnreadable lists the records that could not be decoded.
func (r *Runner) rejectUnreadable(records []journal.Record) {
	var rejects []Reject
	for i := range records {
		if rec := &records[i]; rec.Err != nil {
			rejects = append(rejects, Reject{Seq: rec.Seq, Reason: rec.Err.Error()})
		}
	}
	r.reject(rejects...)
}

func (r *Runner) reject(rejects ...Reject) {
	if len(rejects) == 0 {
		return
	}
	for i := range rejects {
		rejects[i].Projection, rejects[i].Time = r.o.Projection.Name(), r.now()
	}
	r.metrics.rejected.Add(float64(len(rejects)))
	r.update(func(s *Status) { s.Rejected += uint64(len(rejects)) })
	r.log.Error("records are left behind, see GET /rejects", "count", len(rejects), "first", rejects[0].Seq, "reason", rejects[0].Reason)
	if r.o.Rejects == nil {
		return
	}
	if err := r.o.Rejects.Add(rejects...); err != nil {
		r.metrics.stateFailures.Inc()
		r.log.Error("rejects cannot be listed", "error", err)
	}
}

// tick lets the projection do what time brings, saves the position and looks how far the journal got.
func (r *Runner) tick() {
	// From the end, not the beginning: a tick that takes longer than tickEvery must not keep records from being read.
	defer func() { r.nextTick = time.Now().Add(tickEvery) }()
	if t, ok := r.o.Projection.(Ticker); ok {
		r.attempt(func() error {
			position, err := t.Tick(r.ctx, r.now())
			if err == nil {
				r.position = max(r.position, min(position, r.applied))
			}
			return err
		})
	}
	if r.o.SaveEvery <= tickEvery || time.Since(r.savedAt) >= r.o.SaveEvery {
		r.saveOrCount()
	}
	if !r.searching() {
		r.advanced(r.behind())
	} else if r.reader != nil {
		r.advanced(r.reader.Pending())
	}
}

// behind is how many records the journal is known to have that are not applied.
func (r *Runner) behind() uint64 { return max(r.knownEnd.Load(), r.applied) - r.applied }

// state asks the journal.
func (r *Runner) state() (journal.State, error) {
	ctx, cancel := context.WithTimeout(r.ctx, tickEvery)
	defer cancel()
	return r.o.Journal.State(ctx)
}

// flush is the end of a drain, or of a range.
func (r *Runner) flush() error {
	if f, ok := r.o.Projection.(Flusher); ok {
		if err := r.attempt(func() error {
			position, err := f.Flush(r.ctx, r.now())
			if err == nil {
				r.position = max(r.position, min(position, r.applied))
			}
			return err
		}); err != nil {
			return err
		}
	}
	if r.ranged() { // others save a position, which comes to the same
		return r.attempt(r.persist)
	}
	return nil
}

// persist has the sink make durable what was applied. It is to be done also when the runner is stopped.
func (r *Runner) persist() error {
	p, ok := r.o.Projection.(Persister)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), persistPatience)
	defer cancel()
	return p.Persist(ctx)
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
	cut := r.isSetBack && r.o.Backlog != nil
	if r.position == r.saved && !cut || r.rewinding.Load() {
		return nil
	}
	if cut {
		if err := r.o.Backlog.cut(r.setBackTo, r.position); err != nil {
			return err
		}
	} else if err := r.o.Positions.Save(r.o.Projection.Name(), r.position); err != nil {
		r.metrics.stateFailures.Inc()
		return err
	}
	r.metrics.saves.Inc()
	r.saved, r.isSetBack = r.position, false
	return nil
}

// saveOrCount saves the position; if that fails the next tick tries again, and until then the old one is true enough.
func (r *Runner) saveOrCount() {
	r.savedAt = time.Now()
	if err := r.save(); err != nil {
		r.log.Error("the position cannot be saved", "error", err)
	}
}
