package kapa

import (
	"cmp"
	"slices"

	"github.com/nanopack/pulse/internal/floor"
)

// window sums readings by slots, in ascending order of their numbers. The duration and the every of
// an alert are multiples of a slot's width. So an evaluation needs a whole number of slots, and its
// mean is exact. A slot without readings takes no room.
type window struct {
	// The slot of the last reading, and the times from since to before until that belong to it.
	// Readings come by the hundred thousand a second, most of them into the slot of the one before.
	since, until int64
	current      *slot
	slots        []slot
}

type slot struct {
	number int64 // time / width
	total
}

// enter makes the slot of the time the current one.
func (w *window) enter(at, width int64) {
	number := floor.Div(at, width)
	i, found := slices.BinarySearchFunc(w.slots, number, func(s slot, n int64) int { return cmp.Compare(s.number, n) })
	if !found {
		w.slots = slices.Insert(w.slots, i, slot{number: number})
	}
	w.current, w.since, w.until = &w.slots[i], number*width, (number+1)*width
}

// mean is that of the slots from first to before end.
func (w *window) mean(first, end int64) (float64, bool) {
	var all total
	// In order, so that the same readings always have the same sum.
	for i := range w.slots {
		if s := &w.slots[i]; s.number >= first && s.number < end {
			all.merge(s.total)
		}
	}
	return all.mean()
}

// forget drops the slots before first.
func (w *window) forget(first int64) {
	n := 0
	for n < len(w.slots) && w.slots[n].number < first {
		n++
	}
	if n > 0 {
		w.slots = slices.Delete(w.slots, 0, n)
		w.current, w.since, w.until = nil, 0, 0
	}
}

func gcd(a, b Duration) Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
