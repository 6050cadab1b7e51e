package projector

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/journal"
)

// runnerGapMessage is logged with a gap that a runner meets.
const runnerGapMessage = "records are missing from the journal; the projection goes on behind them"

// persistPatience is how long a sink may take to make durable what it took.
const persistPatience = 30 * time.Second

// checkpoint keeps the saved position of a runner. All but beginAgain belongs to the runner's
// goroutine.
type checkpoint struct {
	projection Projection
	positions  *Positions // nil: no position is saved
	backlog    Backlog    // nil: there is none
	progress   *progress
	account    *Account
	metrics    *metrics
	log        *slog.Logger

	every    time.Duration // see RunnerOptions.SaveEvery
	most     int           // see RunnerOptions.SaveReadings
	saved    uint64
	savedAt  time.Time
	readings int     // since savedAt
	appended int64   // what the journal had got by savedAt
	cut      *uint64 // the journal's end, when it turned out to be before the position, and that is not saved yet

	// rewinding: beginAgain was called, and the runner has not begun again yet. The saved position
	// is 0 until then.
	rewinding atomic.Bool
	// saving is held while the position is written, and checked whether it may be: nothing comes
	// between beginAgain and a save.
	saving sync.Mutex
}

// load begins after the saved position, and puts it right if the journal is shorter than that.
func (c *checkpoint) load(ctx context.Context, state journal.State) error {
	seq, err := c.positions.Load(c.projection.Name())
	if err != nil {
		return err
	}
	c.saved = seq
	c.progress.begin(seq, time.Time{})
	switch {
	case seq > state.LastSeq:
		c.setBack(state.LastSeq)
		return c.save(ctx) // before the numbers are used again
	case seq == 0 && state.FirstSeq > 1:
		// What was dropped before there was a position is not missed.
		c.progress.begin(state.FirstSeq-1, time.Time{})
	}
	return nil
}

// setBack moves the position back to the journal's end. It is to be saved at once.
func (c *checkpoint) setBack(end uint64) {
	c.metrics.setBacks.Inc()
	c.account.Gap(&journal.GapError{From: end + 1, To: max(c.progress.applied(), end+1), Reason: journal.GapRewound}, runnerGapMessage)
	c.cut = &end
	c.progress.end.Store(end)
	c.progress.begin(min(c.progress.position(), end), time.Time{})
}

// restart goes back to first, with everything after it to be applied again.
func (c *checkpoint) restart(first uint64) {
	c.saved, c.cut = 0, nil
	c.progress.begin(first, time.Time{})
}

// save saves the position if it has moved, after what lies before it is durable.
func (c *checkpoint) save(ctx context.Context) error {
	if c.positions == nil {
		return nil
	}
	position := c.progress.position()
	if position > c.saved && !c.rewinding.Load() {
		if err := c.persist(ctx); err != nil {
			return err
		}
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	cut := c.cut != nil && c.backlog != nil
	if position == c.saved && !cut || c.rewinding.Load() {
		return nil
	}
	if cut {
		if err := c.backlog.Cut(*c.cut, position); err != nil {
			return err
		}
	} else if err := c.positions.Save(c.projection.Name(), position); err != nil {
		c.account.NotSaved()
		return err
	}
	c.metrics.saves.Inc()
	c.saved, c.cut = position, nil
	return nil
}

// due reports whether the position is to be saved, after some more readings were applied.
func (c *checkpoint) due(records []journal.Record) bool {
	if c.outrun() {
		return true
	}
	if c.most > 0 {
		for i := range records {
			if e := records[i].Event; e != nil {
				c.readings += e.Readings()
			}
		}
		if c.readings >= c.most {
			return true
		}
	}
	return time.Since(c.savedAt) >= c.every
}

// outrun reports whether the journal has got a quarter of what it may hold since the position was
// saved. A small journal would drop what a crash would have applied again, before it is time to save
// the position.
func (c *checkpoint) outrun() bool {
	state := c.progress.journal.Load()
	age := time.Since(c.savedAt)
	if c.positions == nil || state == nil || age < tickEvery || c.progress.position() <= c.saved {
		return false
	}
	return state.MaxBytes > 0 && state.Appended-c.appended > state.MaxBytes/4 ||
		state.Retention > 0 && age > state.Retention/4
}

// saveOrLog saves the position. If that fails the next tick tries again, and until then the old one
// is true enough.
func (c *checkpoint) saveOrLog(ctx context.Context) {
	c.savedAt, c.readings = time.Now(), 0
	if state := c.progress.journal.Load(); state != nil {
		c.appended = state.Appended
	}
	if err := c.save(ctx); err != nil {
		c.log.Error("the position cannot be saved", "error", err)
	}
}

// persist has the sink make durable what was applied. It is to be done also when the runner is
// stopped.
func (c *checkpoint) persist(ctx context.Context) error {
	p, ok := c.projection.(Persister)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), persistPatience)
	defer cancel()
	return p.Persist(ctx)
}

// leave leaves the records up to the journal's end to the backlog, and goes on there. It reports
// whether it did. The reader at the old place is of no use after it.
func (c *checkpoint) leave(ctx context.Context, state journal.State) bool {
	if err := c.save(ctx); err != nil { // the position moves beyond what was applied: that has to be durable
		c.log.Error("the position cannot be saved", "error", err)
		return false
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	if c.rewinding.Load() {
		return false
	}
	left := journal.Span{First: c.progress.applied() + 1, Last: state.LastSeq}
	if err := c.backlog.Take(left); err != nil {
		if !errors.Is(err, ErrBacklogFull) {
			c.log.Error("what lies behind cannot be left to the backlog; the projection goes on with the oldest", "error", err)
		}
		return false
	}
	c.log.Info("the projection goes on at the journal's end; what lies behind is filled in", "from", left.First, "to", left.Last, "records", left.Records())
	c.metrics.jumps.Inc()
	c.saved = left.Last
	c.progress.end.Store(left.Last)
	c.progress.begin(left.Last, state.LastTime)
	return true
}

// beginAgain makes the saved position that of the journal's start, durably, and has the runner
// begin there. It may be called from any goroutine.
func (c *checkpoint) beginAgain() error {
	if c.positions == nil {
		return nil // it begins again at every start anyway
	}
	c.saving.Lock()
	defer c.saving.Unlock()
	c.rewinding.Store(true)
	if c.backlog != nil {
		return c.backlog.Cut(0, 0)
	}
	return c.positions.Save(c.projection.Name(), 0)
}
