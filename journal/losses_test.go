package journal

import (
	"slices"
	"testing"
	"time"
)

// A gap that several readers find is one loss.
func TestLossesAreCountedOnce(t *testing.T) {
	var l losses
	now := time.Now()
	for _, tt := range []struct {
		from, to uint64
		events   uint64
	}{
		{10, 19, 10}, {10, 19, 10}, {15, 24, 15}, {5, 30, 26}, {5, 30, 26}, {100, 100, 27}, {40, 50, 38}, {1, 200, 200}, {7, 3, 200},
	} {
		if l.add(tt.from, tt.to, GapLost, now); l.get().Events != tt.events {
			t.Fatalf("after %d to %d: %d events, want %d", tt.from, tt.to, l.get().Events, tt.events)
		}
	}
	// Numbers that are used again can be lost again.
	l.rewound(101)
	if l.add(90, 110, GapLost, now); l.get().Events != 210 {
		t.Fatalf("%+v", l.get())
	}
	if known := (Spans{{1, 110}}); !slices.Equal(l.known, known) {
		t.Fatalf("known are %v", l.known)
	}
	for i := range uint64(40) {
		l.add(1000+2*i, 1000+2*i, GapRewound, now)
	}
	if got := l.get(); len(got.Ranges) != maxLosses || got.Events != 250 {
		t.Fatalf("%d ranges, %d events", len(got.Ranges), got.Events)
	}
}
