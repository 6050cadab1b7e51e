package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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

// Runner takes one projection through the journal. Start it once; its methods may be called from
// any goroutine.
type Runner struct {
	o       RunnerOptions
	log     *slog.Logger
	account *Account

	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	idle    context.Context // within ctx; ends with Drain too, after target was set: nothing may wait any more
	endIdle context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended, after result was set

	// progress, checkpoint, retrier and intake are the runner's parts, for its goroutine, and for
	// Start before that; lag has a goroutine of its own.
	progress   progress
	checkpoint checkpoint
	retrier    retrier
	intake     intake
	lag        lagMeter
	measuring  sync.WaitGroup // for lag's goroutine

	// Of the runner's goroutine.
	nextTick  time.Time
	works     bool // the last batch was applied, since the last jump
	exhausted bool // draining, and the journal has nothing more to give

	mu      sync.Mutex // guards what follows
	started bool
	drain   bool   // a drain was asked for
	target  uint64 // where it ends
	result  error
}

// NewRunner returns a runner that does nothing yet. The error says which option is missing.
func NewRunner(o RunnerOptions) (*Runner, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	name := o.Projection.Name()
	r := &Runner{
		o:       o,
		log:     o.Logger.With("projection", name),
		account: NewAccount(AccountOptions{Projection: name, Rejects: o.Rejects, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now}),
		done:    make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.idle, r.endIdle = context.WithCancel(r.ctx)
	metrics := newMetrics(o.Registerer, name)
	r.progress = progress{
		account: r.account, backlog: o.Backlog, metrics: metrics, now: o.Now,
		batch: uint64(o.BatchRecords), idle: r.idle, status: Status{Name: name, State: StateNew},
	}
	r.checkpoint = checkpoint{
		projection: o.Projection, positions: o.Positions, backlog: o.Backlog,
		progress: &r.progress, account: r.account, metrics: metrics, log: r.log,
		every: o.SaveEvery, most: o.SaveReadings,
	}
	r.retrier = retrier{log: r.log, account: r.account, progress: &r.progress, ctx: r.ctx, idle: r.idle}
	r.intake = intake{source: o.Journal, most: o.BatchRecords}
	r.lag = lagMeter{journal: o.Journal, progress: &r.progress, log: r.log}
	return r, nil
}

// Start loads the position, puts it right if the journal is shorter than that, and starts the
// goroutine. It must be called before anything is appended to a journal that was just opened: a
// position beyond its end is found by comparing the two. ctx is for the call only. The error means
// that pulse.db or the journal cannot be read, or that the projection cannot begin; the runner is
// stopped then.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	if r.started {
		r.mu.Unlock()
		return errors.New("projector: a runner can be started once only")
	}
	r.started = true
	r.mu.Unlock()
	if err := r.open(ctx); err != nil {
		err = fmt.Errorf("projector: starting %s: %w", r.o.Projection.Name(), err)
		r.cancel()
		r.finish(err)
		return err
	}
	r.measuring.Go(func() { r.lag.run(r.ctx) })
	go func() { r.finish(r.loop()) }()
	return nil
}

// Status returns how the runner is doing. It may be called from any goroutine and at any time.
func (r *Runner) Status() Status { return r.progress.current() }

// Rewind has the runner project the whole journal again, from its first record on: its sink lost
// what it had. It returns when that is certain, also over a crash, and the runner begins as soon as
// the batch under way is applied. What its backlog had left is part of that, and forgotten. It may
// be called from any goroutine, the projection's own and that of its backlog among them.
func (r *Runner) Rewind() error { return r.checkpoint.beginAgain() }

// Stop ends the runner where it is, saves its position and waits for its goroutine. It may be
// called twice.
func (r *Runner) Stop() {
	r.cancel()
	r.mu.Lock()
	if !r.started {
		r.started = true
		r.progress.update(func(s *Status) { s.State = StateStopped })
		close(r.done)
	}
	r.mu.Unlock()
	<-r.done
}

// Drain applies everything that the journal holds now, flushes the projection, saves the position,
// and stops. If ctx ends first it stops where it is, and the error says how far it got. A runner
// that was stopped before returns why.
func (r *Runner) Drain(ctx context.Context) error {
	state, err := r.o.Journal.State(ctx)
	if err != nil {
		r.Stop()
		return fmt.Errorf("projector: draining %s: %w", r.o.Projection.Name(), err)
	}
	r.mu.Lock()
	started := r.started
	if !r.drain {
		r.drain, r.target = true, state.LastSeq
		r.endIdle()
	}
	r.mu.Unlock()
	if !started {
		r.Stop()
		return nil
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.Stop()
	}
	status := r.Status()
	r.mu.Lock()
	defer r.mu.Unlock()
	if status.State == StateDrained {
		return r.result
	}
	err = r.result
	if err == nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("projector: %s stopped at record %d of %d, the rest follows after the next start: %w",
		r.o.Projection.Name(), status.Applied, state.LastSeq, err)
}

// draining reports whether Drain or Stop was called.
func (r *Runner) draining() bool { return r.idle.Err() != nil }

// open finds the beginning, and has the projection begin there.
func (r *Runner) open(ctx context.Context) error {
	state, err := r.o.Journal.State(ctx)
	if err != nil {
		return err
	}
	r.progress.end.Store(state.LastSeq)
	switch r.o.Start.from {
	case fromPosition:
		err = r.checkpoint.load(ctx, state)
	case fromTime:
		var first uint64
		first, err = FirstAt(ctx, r.o.Journal, state, r.o.Start.time)
		r.progress.begin(max(first, 1)-1, time.Time{})
	case fromEnd:
		r.progress.begin(state.LastSeq, time.Time{})
	}
	if err != nil {
		return err
	}
	if err := r.begin(ctx, state); err != nil {
		return err
	}
	r.nextTick = time.Now().Add(tickEvery)
	r.checkpoint.savedAt = time.Now()
	return r.intake.open(r.progress.applied() + 1)
}

func (r *Runner) begin(ctx context.Context, state journal.State) error {
	if b, ok := r.o.Projection.(Beginner); ok {
		return b.Begin(ctx, Origin{Position: r.progress.position(), First: state.FirstSeq, Last: state.LastSeq})
	}
	return nil
}

// loop runs until the runner is stopped, which is no error, or drained.
func (r *Runner) loop() error {
	for r.ctx.Err() == nil {
		if end, ok := r.end(); ok && (r.exhausted || r.progress.applied() >= end) && !r.checkpoint.rewinding.Load() {
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

// step reads one batch and applies it, and ticks if it is time.
func (r *Runner) step() {
	r.rewind()
	records, err := r.read()
	gap, isGap := errors.AsType[*journal.GapError](err)
	switch {
	case err == nil:
		r.retrier.recovered()
		if !r.jump() {
			r.applyAll(records)
		}
		if r.ctx.Err() != nil {
			return // stopped in a back-off, perhaps: the status keeps the error
		}
	case r.ctx.Err() != nil:
		return
	case isGap:
		r.retrier.recovered()
		r.passGap(gap)
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		r.retrier.recovered() // nothing came before the next tick, or a drain began
	default:
		r.retrier.failed(fmt.Errorf("reading the journal: %w", err))
		r.closeReader()
		return
	}
	if !time.Now().Before(r.nextTick) {
		r.tick()
	} else if err == nil && len(records) < r.o.BatchRecords && r.o.Linger > 0 && r.progress.behind() == 0 && !r.checkpoint.rewinding.Load() {
		retry.Sleep(r.idle, min(r.o.Linger, time.Until(r.nextTick)))
	}
}

// read reads the next batch. It gives up when the next tick is due or a drain begins. While
// draining, it finds out that the journal has nothing more to give.
func (r *Runner) read() ([]journal.Record, error) {
	if err := r.intake.open(r.progress.applied() + 1); err != nil {
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
		r.log.Warn("the journal does not give its last records; they are lost", "from", r.progress.applied()+1)
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
	return err == nil && r.intake.reader.Pending() == 0
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
		r.moveTo(t.Tick)
	}
	if r.o.SaveEvery <= tickEvery || r.checkpoint.due(nil) {
		r.checkpoint.saveOrLog(r.ctx)
	}
	r.progress.advance(func(*Status) {})
}

// flush is the end of a drain.
func (r *Runner) flush() error {
	if f, ok := r.o.Projection.(Flusher); ok {
		return r.moveTo(f.Flush)
	}
	return nil
}

// moveTo moves the position to the one that Tick or Flush returns.
func (r *Runner) moveTo(next func(context.Context, time.Time) (uint64, error)) error {
	return r.retrier.attempt(func() error {
		position, err := next(r.ctx, r.o.Now())
		if err == nil {
			r.progress.move(position)
		}
		return err
	})
}

// finish is the end of the runner: nothing else is under way.
func (r *Runner) finish(err error) {
	state := StateStopped
	if err == nil && r.ctx.Err() == nil {
		state = StateDrained
	}
	r.cancel()
	r.measuring.Wait()
	r.closeReader()
	if serr := r.checkpoint.save(r.ctx); serr != nil {
		err = errors.Join(err, serr)
	}
	r.mu.Lock()
	r.result = err
	r.mu.Unlock()
	r.progress.update(func(s *Status) { s.State = state })
	close(r.done)
}
