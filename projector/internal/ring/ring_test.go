package ring

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLikeASlice does random operations on a ring and compares the ring with a slice.
func TestLikeASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		r := Ring[int]{Max: 1 + rng.IntN(300)}
		var want, dropped []int
		next := 0
		for range 1000 {
			switch n := rng.IntN(100); rng.IntN(4) {
			case 0, 1:
				for ; n > 0 && !r.Full(); n-- {
					next++
					r.Push(next)
					want, dropped = append(want, next), nil
				}
			case 2:
				for ; n > 0 && r.Len() > 0; n-- {
					dropped = append(dropped, *r.At(r.First()))
					r.Drop()
				}
				want = want[len(want)-r.Len():]
			case 3:
				for len(dropped) > 0 && !r.Full() {
					last := len(dropped) - 1
					r.PutBack(dropped[last])
					want = slices.Insert(slices.Clone(want), 0, dropped[last])
					dropped = dropped[:last]
				}
			}
			var got []int
			for n := r.First(); n < r.Next(); n++ {
				got = append(got, *r.At(n))
			}
			if !slices.Equal(got, want) || r.Len() != len(want) || len(r.slots) > 2*max(r.Max, 32) {
				t.Fatalf("%v in %d slots, want %v", got, len(r.slots), want)
			}
			if held := len(r.slots) - count(r.slots, 0); held != len(want) {
				t.Fatalf("%d elements are held, want %d", held, len(want))
			}
		}
		before := r.Next()
		if r.Reset(); r.Len() != 0 || r.First() <= before || r.slots != nil {
			t.Fatalf("after Reset there are %d elements from %d on", r.Len(), r.First())
		}
	}
}

func count(s []int, v int) (n int) {
	for _, x := range s {
		if x == v {
			n++
		}
	}
	return n
}
