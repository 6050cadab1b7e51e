// Package retry is how a loop meets failures that pass: pauses that double, and a log that says
// once a minute that it fails, and once that it goes on.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// logEvery is how often failures that go on are logged.
const logEvery = time.Minute

// Backoff is a pause that doubles from First to Last with each failure in a row.
type Backoff struct{ First, Last time.Duration }

// Pause returns the pause after n failures in a row; n counts from 1. Up to a fifth is taken off at
// random, so that not everybody tries again at the same moment.
func (b Backoff) Pause(n int) time.Duration {
	d := b.First
	for i := 1; i < n && d < b.Last; i++ {
		d *= 2
	}
	d = min(d, b.Last)
	return d - rand.N(d/5+1)
}

// Failures is a run of failures: how many there were in a row, and whether the log knows of them.
// The zero value is none. It belongs to one goroutine.
type Failures struct {
	count    int
	logged   bool // this run
	loggedAt time.Time
}

// Add counts a failure and returns how many there are in a row.
func (f *Failures) Add() int {
	f.count++
	return f.count
}

// Count returns how many failures there are in a row.
func (f *Failures) Count() int { return f.count }

// MayLog reports whether the log is to be told now: nothing was logged for a minute.
func (f *Failures) MayLog() bool { return f.loggedAt.IsZero() || time.Since(f.loggedAt) >= logEvery }

// Logged notes that the log was told.
func (f *Failures) Logged() { f.logged, f.loggedAt = true, time.Now() }

// End ends the run. It returns how many failures there were, and whether the log knows of them, so
// that it is to be told that they are over.
func (f *Failures) End() (count int, logged bool) {
	count, logged = f.count, f.logged
	f.count, f.logged = 0, false
	return count, logged
}

// Sleep waits until d is over, and reports false if ctx ended before.
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
