// Package retry helps a loop to survive temporary failures: the pauses between its attempts double,
// and the log gets one line a minute while the failures last and one line when they are over.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// logEvery is the shortest time between two log lines about a run of failures.
const logEvery = time.Minute

// Backoff is a pause that doubles from First to Last with each failure of a run.
type Backoff struct{ First, Last time.Duration }

// Pause returns the pause after the n-th failure of a run; n counts from 1. Pause takes off up to a
// fifth at random, so that not all clients try again at the same moment.
func (b Backoff) Pause(n int) time.Duration {
	d := b.First
	for i := 1; i < n && d < b.Last; i++ {
		d *= 2
	}
	d = min(d, b.Last)
	return d - rand.N(d/5+1)
}

// Failures is a run of failures: their number, and whether one of them was logged. The zero value
// is an empty run. One goroutine owns it.
type Failures struct {
	count    int
	logged   bool // this run
	loggedAt time.Time
}

// Add counts a failure and returns the number of failures in this run.
func (f *Failures) Add() int {
	f.count++
	return f.count
}

// Count returns the number of failures in this run.
func (f *Failures) Count() int { return f.count }

// MayLog reports whether a failure may be logged now: none was logged within the last minute.
func (f *Failures) MayLog() bool { return f.loggedAt.IsZero() || time.Since(f.loggedAt) >= logEvery }

// Logged notes that a failure was logged now.
func (f *Failures) Logged() { f.logged, f.loggedAt = true, time.Now() }

// End ends the run. It returns the number of failures, and whether one of them was logged. If one
// was, the caller should log that the failures are over.
func (f *Failures) End() (count int, logged bool) {
	count, logged = f.count, f.logged
	f.count, f.logged = 0, false
	return count, logged
}

// Sleep waits for d. It reports false if ctx ends before that.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
