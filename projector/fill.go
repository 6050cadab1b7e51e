package projector

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

// stateTimeout is how long the backlog waits for the journal's state.
const stateTimeout = 5 * time.Second

// run fills in the newest range, chunk by chunk, until the backlog is stopped, or empty and to be drained.
func (b *Backlog) run() {
	defer close(b.done)
	for b.ctx.Err() == nil {
		newest, epoch, ok := b.newest()
		switch {
		case ok:
			if err := b.fill(newest, epoch); err == nil {
				b.recovered()
			} else if b.ctx.Err() == nil {
				b.failed(err)
			}
		case b.hurry.Err() != nil:
			return
		default:
			select {
			case <-b.wake:
			case <-b.hurry.Done():
			}
		}
	}
}

// newest is the newest range.
func (b *Backlog) newest() (s journal.Span, epoch int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.ranges) == 0 {
		return journal.Span{}, b.epoch, false
	}
	return b.ranges[len(b.ranges)-1], b.epoch, true
}

// fill applies the newest chunk of s, or puts s right if the journal does not have all of that.
func (b *Backlog) fill(s journal.Span, epoch int) error {
	state, err := b.state()
	if err != nil {
		return err
	}
	if s.Last > state.LastSeq {
		// The runner sees that too, goes back to the journal's end, and counts what is lost.
		_, err := b.finished(journal.Span{First: max(s.First, state.LastSeq+1), Last: s.Last}, epoch)
		return err
	}
	chunk := s
	if s.Records() > b.chunk {
		chunk.First = s.Last - b.chunk + 1
	}
	if gone := (journal.Span{First: s.First, Last: min(state.FirstSeq-1, s.Last)}); state.FirstSeq > chunk.First {
		// All that is older is gone with it: one gap.
		ok, err := b.finished(gone, epoch)
		if ok && err == nil {
			b.gap(&journal.GapError{From: gone.First, To: gone.Last, Reason: journal.GapRetention})
		}
		return err
	}
	if err := b.apply(chunk); err != nil {
		return err
	}
	for {
		if _, err = b.finished(chunk, epoch); err == nil || b.ctx.Err() != nil {
			return err
		}
		b.failed(err) // it need not be applied again
	}
}

// apply takes a runner of its own through a chunk.
func (b *Backlog) apply(chunk journal.Span) error {
	r, err := NewRunner(RunnerOptions{
		Projection: b.o.Projection, Journal: b.o.Journal, Rejects: b.o.Rejects, Start: Between(chunk.First, chunk.Last),
		Logger: b.o.Logger, Registerer: b.o.Registerer, Now: b.o.Now,
	})
	if err != nil {
		return err
	}
	if err := r.Start(b.ctx); err != nil {
		return err
	}
	b.mu.Lock()
	b.running = r
	b.mu.Unlock()
	if b.hurry.Err() != nil {
		r.endIdle()
	}
	select {
	case <-r.Done():
	case <-b.ctx.Done():
		r.Stop()
	}
	b.mu.Lock()
	b.running = nil
	s := r.Status()
	b.status.add(s)
	if s.LastError != "" { // stopped while it failed
		b.status.LastError, b.status.FailingSince = s.LastError, s.FailingSince
	}
	b.mu.Unlock()
	return r.Err()
}

// state asks the journal.
func (b *Backlog) state() (journal.State, error) {
	ctx, cancel := context.WithTimeout(b.ctx, stateTimeout)
	defer cancel()
	return b.o.Journal.State(ctx)
}

// gap notes records that were dropped before their turn.
func (b *Backlog) gap(g *journal.GapError) {
	b.metrics.gap(g)
	b.log.Error("records are missing from the journal before they could be filled in",
		"from", g.From, "to", g.To, "count", g.Missing(), "reason", g.Reason)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Lost += g.Missing()
	b.status.Gaps = newest(append(b.status.Gaps, Gap{g.From, g.To, g.Missing(), g.Reason, b.o.Now()}))
}

// failed notes a failure outside a chunk's runner, and waits out the back-off.
func (b *Backlog) failed(err error) {
	b.metrics.failures.Inc()
	b.mu.Lock()
	n := b.failures.Add()
	b.status.Failures++
	b.status.LastError = err.Error()
	if b.status.FailingSince.IsZero() {
		b.status.FailingSince = b.o.Now()
	}
	if b.failures.MayLog() && logFailure(b.log, err, "the backlog cannot go on and tries again", "failures", n) {
		b.failures.Logged()
	}
	b.mu.Unlock()
	d, ctx := backoff.Pause(n), b.hurry
	if ctx.Err() != nil {
		d, ctx = min(d, backoffDrain), b.ctx
	}
	retry.Sleep(ctx, d)
}

// recovered ends a run of failures.
func (b *Backlog) recovered() {
	b.mu.Lock()
	_, logged := b.failures.End()
	b.status.LastError, b.status.FailingSince = "", time.Time{}
	b.mu.Unlock()
	if logged {
		b.log.Info("the backlog goes on")
	}
}

// jump leaves what lies between to the backlog and goes on at the journal's end, if it is far away. It is called with
// records at hand, and after a batch was applied: the sink works, and the reader knows of no shorter journal. It says whether it did.
func (r *Runner) jump() bool {
	b := r.o.Backlog
	if b == nil || !r.works || r.behind() <= b.behind || r.position != r.applied || r.draining() {
		return false
	}
	state, err := r.state()
	if err != nil || state.LastSeq <= r.applied+b.behind {
		return false
	}
	if err := r.save(); err != nil { // the position moves behind what was applied: that has to be durable
		r.works = false
		r.log.Error("the position cannot be saved", "error", err)
		return false
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	if r.rewinding.Load() {
		return false
	}
	left := journal.Span{First: r.applied + 1, Last: state.LastSeq}
	if err := b.handOver(left); err != nil {
		r.works = false // not again before the next batch was applied
		if !errors.Is(err, errFull) {
			r.log.Error("what lies behind cannot be left to the backlog; the projection goes on with the oldest", "error", err)
		}
		return false
	}
	r.log.Info("the projection goes on at the journal's end; what lies behind is filled in", "from", left.First, "to", left.Last, "records", left.Records())
	r.metrics.jumps.Inc()
	r.closeReader()
	r.applied, r.position, r.saved = left.Last, left.Last, left.Last
	r.works = false
	r.knownEnd.Store(left.Last)
	r.setOldest(state.LastTime)
	r.advanced(r.behind())
	return true
}
