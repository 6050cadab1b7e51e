package projector

import (
	"context"
	"time"

	"github.com/nanopack/pulse/journal"
)

// Together is several projections as one, so that each record is read and decoded once for all of
// them: those into memory, and to whoever listens at the moment, which cost little more than that.
// None of them may fail or wait for anybody, since they would do it for all, and none may hold a
// position back.
type Together struct {
	name    string
	members []Projection
}

// NewTogether returns the projection. Its runner has no position.
func NewTogether(name string, members ...Projection) *Together { return &Together{name, members} }

// Name is the name given.
func (t *Together) Name() string { return t.name }

// Begin has each member begin that wants to be told.
func (t *Together) Begin(ctx context.Context, span Origin) error {
	for _, m := range t.members {
		if b, ok := m.(Beginner); ok {
			if err := b.Begin(ctx, span); err != nil {
				return err
			}
		}
	}
	return nil
}

// Apply has each member apply the records.
func (t *Together) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	for _, m := range t.members {
		if _, err := m.Apply(ctx, records); err != nil {
			return 0, err
		}
	}
	return records[len(records)-1].Seq, nil
}

// Tick has each member tick that does.
func (t *Together) Tick(ctx context.Context, now time.Time) (uint64, error) {
	for _, m := range t.members {
		if k, ok := m.(Ticker); ok {
			if _, err := k.Tick(ctx, now); err != nil {
				return 0, err
			}
		}
	}
	return 0, nil
}
