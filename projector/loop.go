package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

const (
	// tickEvery is how often a Ticker is called.
	tickEvery = time.Second
	// drainPatience is how long a drain waits for records that the journal's end promises and that
	// do not come: the journal has lost them then.
	drainPatience = 2 * time.Second
)

// open finds the beginning, and has the projection begin there.
func (r *Runner) open(ctx context.Context) error {
	state, err := r.o.Journal.State(ctx)
	if err != nil {
		return err
	}
	r.knownEnd.Store(state.LastSeq)
	if r.o.Start.from == fromPosition {
		err = r.openPosition(state)
	} else {
		err = r.openAt(ctx, state)
	}
	if err != nil {
		return err
	}
	if err := r.begin(ctx, state); err != nil {
		return err
	}
	r.nextTick = time.Now().Add(tickEvery)
	r.savedAt = time.Now()
	r.update(func(s *Status) { s.Position, s.Applied, s.State = r.position, r.applied, StateLive })
	return r.intake.open(r.applied + 1)
}

// openAt begins without a saved position.
func (r *Runner) openAt(ctx context.Context, state journal.State) error {
	r.applied = state.LastSeq
	if r.o.Start.from == fromTime {
		first, err := FirstAt(ctx, r.o.Journal, state, r.o.Start.time)
		if err != nil {
			return err
		}
		r.applied = first - 1
	}
	r.position = r.applied
	return nil
}

func (r *Runner) begin(ctx context.Context, state journal.State) error {
	if b, ok := r.o.Projection.(Beginner); ok {
		return b.Begin(ctx, Origin{Position: r.position, First: state.FirstSeq, Last: state.LastSeq})
	}
	return nil
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

// end is where a drain ends, and false if there is none.
func (r *Runner) end() (uint64, bool) {
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
	r.looking.Wait()
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
		if !r.jump() {
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

// read reads the next batch. It gives up when the next tick is due or a drain begins. While
// draining, it finds out that the journal has nothing more to give.
func (r *Runner) read() ([]journal.Record, error) {
	if err := r.intake.open(r.applied + 1); err != nil {
		return nil, err
	}
	if !r.draining() {
		ctx, cancel := context.WithDeadline(r.idle, r.nextTick)
		defer cancel()
		return r.intake.read(ctx)
	}
	ctx, cancel := context.WithTimeout(r.ctx, drainPatience)
	defer cancel()
	records, err := r.intake.read(ctx)
	if err != nil && ctx.Err() != nil && r.ctx.Err() == nil && r.nothingLeft() {
		r.log.Warn("the journal does not give its last records; they are lost", "from", r.applied+1)
		r.exhausted = true
	}
	return records, err
}

// nothingLeft reports whether the reader has seen everything. A journal that does not answer is no
// proof.
func (r *Runner) nothingLeft() bool {
	ctx, cancel := context.WithTimeout(r.ctx, drainPatience)
	defer cancel()
	_, err := r.o.Journal.State(ctx)
	return err == nil && r.reader.Pending() == 0
}

// closeReader makes the next read open another reader.
func (r *Runner) closeReader() {
	if err := r.intake.close(); err != nil {
		r.log.Warn("closing the journal's reader failed", "error", err)
	}
}

// tick lets the projection do what time brings, saves the position and notes how far the journal
// got.
func (r *Runner) tick() {
	// From the end, not the beginning: a tick that takes longer than tickEvery must not keep
	// records from being read.
	defer func() { r.nextTick = time.Now().Add(tickEvery) }()
	if t, ok := r.o.Projection.(Ticker); ok {
		r.attempt(func() error {
			position, err := t.Tick(r.ctx, r.now())
			if err == nil {
				r.place.move(position)
			}
			return err
		})
	}
	if r.o.SaveEvery <= tickEvery || time.Since(r.savedAt) >= r.o.SaveEvery {
		r.saveOrLog()
	}
	r.advanced()
}

// flush is the end of a drain.
func (r *Runner) flush() error {
	f, ok := r.o.Projection.(Flusher)
	if !ok {
		return nil
	}
	return r.attempt(func() error {
		position, err := f.Flush(r.ctx, r.now())
		if err == nil {
			r.place.move(position)
		}
		return err
	})
}
