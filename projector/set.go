package projector

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// failingDrain is how long a drain waits for the past, and for a projection whose sink is away: a
// stop should not take as long as waiting for their end.
const failingDrain = 2 * time.Second

// SetOptions are what all projections of a Set have in common. Journal and Positions are required.
type SetOptions struct {
	Journal   Source
	Positions *Positions
	// Schema is that of the database of those that are added with AddStored (nil: there is none).
	Schema Schema
	// Rejects, Logger, Registerer and Now are as in RunnerOptions.
	Rejects    *Rejects
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Schema is the schema of a database into which several projections write.
type Schema interface {
	// Ensure makes the schema, or repairs it. It calls missing before it makes what is not there
	// and held what was written to it. With an error of missing it makes nothing.
	Ensure(ctx context.Context, missing func() error) error
	// Wiped is called before the projections of these names begin again with the journal's first
	// record, because the database holds nothing of what was written to it.
	Wiped(ctx context.Context, projections []string) error
}

// Past is what goes over recorded events again, for the projections of a Set.
type Past interface {
	Start(ctx context.Context) error
	// Drain stops the work as soon as it can, and returns what is left.
	Drain(ctx context.Context) error
}

// Set is all projections of a journal. Each has a runner of its own, so that a sink that is slow or
// away delays no other. Add all before Start; the other methods may be called from any goroutine.
type Set struct {
	o       SetOptions
	past    Past
	runners []*Runner
	stored  []*Runner // those whose database Schema is of

	mu   sync.Mutex // one EnsureSchema at a time; guards what follows
	seen bool       // the schema was there once since the start
}

// NewSet returns a set without projections.
func NewSet(o SetOptions) *Set { return &Set{o: o} }

// AddPast adds what goes over the past.
func (s *Set) AddPast(p Past) { s.past = p }

// Add adds a projection. The options that all have in common are filled in. The error says which is
// missing.
func (s *Set) Add(o RunnerOptions) error {
	_, err := s.add(o)
	return err
}

// AddStored adds a projection into the database of SetOptions.Schema.
func (s *Set) AddStored(o RunnerOptions) error {
	r, err := s.add(o)
	if err == nil {
		s.stored = append(s.stored, r)
	}
	return err
}

func (s *Set) add(o RunnerOptions) (*Runner, error) {
	o.Journal, o.Positions, o.Rejects = s.o.Journal, s.o.Positions, s.o.Rejects
	o.Logger, o.Registerer, o.Now = s.o.Logger, s.o.Registerer, s.o.Now
	r, err := NewRunner(o)
	if err == nil {
		s.runners = append(s.runners, r)
	}
	return r, err
}

// Start starts all runners, see Runner.Start, and then the work on the past. After an error, Drain
// stops what was started.
func (s *Set) Start(ctx context.Context) error {
	for _, r := range s.runners {
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
	if s.past == nil {
		return nil
	}
	return s.past.Start(ctx)
}

// Status returns how the projections are doing, in the order in which they were added.
func (s *Set) Status() []Status {
	list := make([]Status, len(s.runners))
	for i, r := range s.runners {
		list[i] = r.Status()
	}
	return list
}

// Drain lets every projection reach the journal's end, all at the same time, and stops. One whose
// sink is away gets two seconds for it, and so does the past: what is left of that may be hours of
// work. The error says what is left; the next start does it.
func (s *Set) Drain(ctx context.Context) error {
	s.checkSchema(ctx)
	var group errgroup.Group
	errs := make([]error, len(s.runners)+1)
	if s.past != nil {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, failingDrain)
			defer cancel()
			errs[len(s.runners)] = s.past.Drain(ctx)
			return nil
		})
	}
	for i, r := range s.runners {
		group.Go(func() error {
			errs[i] = drain(ctx, r)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	return errors.Join(errs...)
}

// drain drains a runner, or stops it when its sink has failed for failingDrain. A failure often
// shows only now: aggregates have nothing to write until a window ends, and a shutdown of the host
// ends InfluxDB at the same time.
func drain(ctx context.Context, r *Runner) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		working := time.Now()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			switch status := r.Status(); {
			case status.LastError == "":
				working = time.Now()
			case time.Since(working) >= failingDrain:
				cancel(errors.New(status.LastError))
				return
			}
		}
	})
	err := r.Drain(ctx)
	cancel(nil)
	watching.Wait()
	return err
}

// EnsureSchema makes and repairs the schema. If the database is new, or was wiped, it holds nothing
// of what the journal does: what is stored in it begins again at the journal's first record. That
// is on disk before the schema is made, so that a crash in between forgets nothing.
func (s *Set) EnsureSchema(ctx context.Context) error {
	s.mu.Lock() // several projections come here, at the start at the same time
	defer s.mu.Unlock()
	if err := s.o.Schema.Ensure(ctx, func() error { return s.rewind(ctx) }); err != nil {
		return err
	}
	s.seen = true
	return nil
}

// checkSchema ensures the schema before a drain, if nothing has since the start. A database that was
// wiped is found by that, and only then it is known what there is to project. A database that does
// not answer is left to the next start.
func (s *Set) checkSchema(ctx context.Context) {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()
	if seen || s.o.Schema == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, failingDrain)
	defer cancel()
	if err := s.EnsureSchema(ctx); err != nil && s.o.Logger != nil {
		s.o.Logger.Debug("the schema is left to the next start", "error", err)
	}
}

// rewind rewinds the projections into the database, which holds nothing, if they had begun: if a
// position is saved, or if something may have been written since the start, which no position tells
// yet.
func (s *Set) rewind(ctx context.Context) error {
	var begun []*Runner
	var names []string
	for _, r := range s.stored {
		name := r.o.Projection.Name()
		position, err := s.o.Positions.Load(name)
		if err != nil {
			return err
		}
		if position > 0 || s.seen {
			begun, names = append(begun, r), append(names, name)
		}
	}
	if len(begun) == 0 {
		return nil
	}
	if err := s.o.Schema.Wiped(ctx, names); err != nil {
		return err
	}
	for _, r := range begun {
		if err := r.Rewind(); err != nil {
			return err
		}
	}
	return nil
}
