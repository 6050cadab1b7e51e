package kapa

import (
	"context"
	"time"
)

// wakeup lets a loop sleep until somebody has work for it. It holds one call.
type wakeup chan struct{}

func newWakeup() wakeup { return make(wakeup, 1) }

// poke ends the sleep of the loop, or the next one. It does not block.
func (w wakeup) poke() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// sleep waits until poke is called, or for the pause. It returns false when ctx has ended.
func (w wakeup) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-w:
	case <-timer.C:
	}
	return true
}
