package projectortest

import (
	"context"
	"math"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Limited is a journal with limits. Each of its events has 100 bytes.
type Limited struct {
	*Memory
	// Retention and MaxBytes are the limits; 0 means none.
	Retention time.Duration
	MaxBytes  int64
}

// State is that of Memory, with the limits and with the times of the first and the last event.
func (l Limited) State(ctx context.Context) (journal.State, error) {
	s, err := l.Memory.State(ctx)
	if err != nil {
		return s, err
	}
	s.Retention, s.MaxBytes, s.Bytes = l.Retention, l.MaxBytes, s.Messages*100
	l.Events(func(_ uint64, e *codec.Event) {
		t := time.Unix(0, e.Time)
		if s.FirstTime.IsZero() {
			s.FirstTime = t
		}
		s.LastTime = t
	})
	return s, nil
}

// About compares with a tolerance of 2.1 s: the status is a second old at most, and so is the data
// that it is made of. It reports false if got is nil.
func About(got *float64, want float64) bool { return got != nil && math.Abs(*got-want) <= 2.1 }
