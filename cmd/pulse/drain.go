package main

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/projector"
)

// drainRunner drains for drainTimeout, or until its sink has failed for
// failingDrainTimeout. A failure often shows only now: aggregates have nothing
// to write until a window ends, and a shutdown ends InfluxDB at the same time.
func drainRunner(ctx context.Context, r *projector.Runner) error {
	ctx, done := context.WithTimeout(ctx, drainTimeout)
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
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
			case time.Since(working) >= failingDrainTimeout:
				cancel(errors.New(status.LastError))
				return
			}
		}
	}()
	err := r.Drain(ctx)
	cancel(nil)
	<-watched
	return err
}
