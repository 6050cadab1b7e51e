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
	if err := a.write(ctx, a.windows, func(w *window, _ *block) bool { return w.closing }, portion); err != nil {
		return err
	}
	late := func(w *window) bool { return w.closed && !w.closing && passed(w.since, now, lateAge) }
	if !passed(a.slicedAt, now, sliceEvery) {
		return a.write(ctx, a.windows, func(w *window, _ *block) bool { return late(w) }, 0)
	}
	err := a.write(ctx, a.windows, func(w *window, b *block) bool {
		if w.closed {
			return late(w)
		}
		// The rows of a shorter window are not old when it closes.
		return b.slice == a.slice && w.end-w.start > int64(rowAge-grace)
	}, 0)
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
