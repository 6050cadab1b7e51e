package stream

import (
	"context"
	"sync/atomic"
	"time"
)

// turns bounds how many subscriptions read the journal at a time. It may be used from any
// goroutine.
type turns struct {
	slots   chan struct{} // holds a value for each subscription that reads
	waiting *atomic.Int32 // subscriptions
}

func newTurns(n int) turns { return turns{make(chan struct{}, n), new(atomic.Int32)} }

// take waits for a turn until the timer fires. It reports whether there is one. The error is ctx's.
func (t turns) take(ctx context.Context, timer *time.Timer) (bool, error) {
	select {
	case t.slots <- struct{}{}:
		return true, nil
	default:
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	select {
	case t.slots <- struct{}{}:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// give ends a turn.
func (t turns) give() { <-t.slots }

// wanted reports whether somebody waits for a turn.
func (t turns) wanted() bool { return t.waiting.Load() > 0 }
