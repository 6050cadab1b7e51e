package influx

import (
	"context"
	"time"
)

const (
	// rowAge is how old a row in InfluxDB may be while its window is open: the readings of the last
	// rowAge may be missing in it.
	rowAge = 5 * time.Minute
	// openSlices is the number of parts in which the rows of open windows are written, one after the
	// other and sliceEvery apart, so that they never are all written at once. A tick may come a
	// second late.
	openSlices = 16
	sliceEvery = rowAge/openSlices - 2*time.Second
	// lateAge is how long the late readings of a closed window wait to be written.
	lateAge = time.Minute
	// portion is how many values of a closed window's rows are written at once.
	portion = 6 * writePoints
)

// writeDue writes a portion of the windows that are closing, the closed windows whose late readings
// have waited long enough, and, when its turn has come, a slice of the open windows.
func (a *Aggregates) writeDue(ctx context.Context, now time.Time) error {
	closing := a.those(func(w *window) bool { return w.closing })
	if err := a.write(ctx, closing, all, portion); err != nil {
		return err
	}
	late := a.those(func(w *window) bool { return w.closed && !w.closing && passed(w.since, now, lateAge) })
	if err := a.write(ctx, late, all, 0); err != nil {
		return err
	}
	if !passed(a.slicedAt, now, sliceEvery) {
		return nil
	}
	// The rows of a shorter window are not old when it closes.
	open := a.those(func(w *window) bool { return !w.closed && w.end-w.start > int64(rowAge-grace) })
	err := a.write(ctx, open, func(b *block) bool { return b.slice == a.slice }, 0)
	if err == nil {
		a.slice, a.slicedAt = (a.slice+1)%openSlices, now
	}
	return err
}

// passed reports whether some time has passed since then on a clock that may be set back.
func passed(since, now time.Time, d time.Duration) bool {
	age := now.Sub(since)
	return age >= d || age < 0
}
