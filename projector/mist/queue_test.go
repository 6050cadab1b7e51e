package mist

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func numbered(from, to int) []message {
	var list []message
	for i := from; i <= to; i++ {
		list = append(list, message{time: int64(i)})
	}
	return list
}

// TestQueueLikeASlice does random operations on a queue and compares the queue with a slice.
func TestQueueLikeASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		limit := 1 + rng.IntN(700)
		q := newQueue(limit)
		var want []message
		next := 1
		var last []message // the messages popped last, which may be put back
		for range 200 {
			switch rng.IntN(5) {
			case 0, 1:
				n := rng.IntN(300)
				batch := numbered(next, next+n-1)
				next += n
				last = nil
				want = append(want, batch...)
				over := max(0, len(want)-limit)
				want = want[over:]
				if dropped, open := q.push(batch); dropped != over || !open {
					t.Fatalf("dropped %d, want %d", dropped, over)
				}
			case 2:
				since := 0
				if len(want) > 0 && rng.IntN(3) == 0 {
					since = int(want[0].time) + rng.IntN(50)
				}
				stale := 0
				for stale < len(want) && want[stale].time < int64(since) {
					stale++
				}
				want = want[stale:]
				dst := make([]message, 1+rng.IntN(200))
				n, old := q.pop(dst, int64(since))
				if old != stale || n != min(len(dst), len(want)) || !slices.Equal(dst[:n], want[:n]) {
					t.Fatalf("popped %d and %d old, want %d and %d", n, old, len(want), stale)
				}
				last, want = dst[:n], want[n:]
			case 3:
				room := limit - len(want)
				over := max(0, len(last)-room)
				if dropped := q.putBack(last); dropped != over {
					t.Fatalf("dropped %d, want %d", dropped, over)
				}
				want = append(slices.Clone(last[over:]), want...)
				last = nil
			case 4:
				stale := 0
				if len(want) > 0 {
					since := want[0].time + int64(rng.IntN(5))
					for stale < len(want) && want[stale].time < since {
						stale++
					}
					if old := q.expire(since); old != stale {
						t.Fatalf("%d expired, want %d", old, stale)
					}
				}
				want = want[stale:]
			}
			if q.len() != len(want) {
				t.Fatalf("%d are queued, want %d", q.len(), len(want))
			}
		}
		if left := q.close(); left != len(want) {
			t.Fatalf("%d were left, want %d", left, len(want))
		}
		if _, open := q.push(numbered(1, 1)); open || q.len() != 0 {
			t.Fatal("a closed queue takes messages")
		}
	}
}
