package kapa

import "github.com/nanopack/pulse/internal/wide"

// total is what a slot, or a window of slots, knows of its readings: enough for a mean that is
// never beyond the readings, also when their sum is more than a float64 holds.
type total struct {
	sum       float64 // as package wide has it
	scaled    bool
	low, high float64 // of the readings, if there are any
	count     int64
}

func (t *total) add(value float64) {
	t.merge(total{sum: value, low: value, high: value, count: 1})
}

func (t *total) merge(other total) {
	if t.count == 0 {
		t.low, t.high = other.low, other.high
	}
	t.sum, t.scaled = wide.Merge(t.sum, t.scaled, other.sum, other.scaled)
	t.low, t.high = min(t.low, other.low), max(t.high, other.high)
	t.count += other.count
}

// mean returns false if there are no readings.
func (t *total) mean() (float64, bool) {
	if t.count == 0 {
		return 0, false
	}
	return wide.Mean(t.sum, t.scaled, float64(t.count), t.low, t.high), true
}
