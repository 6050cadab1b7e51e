package projector

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSpans(t *testing.T) {
	var s spans
	for _, tt := range []struct {
		change func(spans) spans
		want   spans
	}{
		{func(s spans) spans { return s.add(span{10, 20}) }, spans{{10, 20}}},
		{func(s spans) spans { return s.add(span{30, 40}) }, spans{{10, 20}, {30, 40}}},
		{func(s spans) spans { return s.add(span{22, 28}) }, spans{{10, 20}, {22, 28}, {30, 40}}},
		{func(s spans) spans { return s.add(span{21, 21}) }, spans{{10, 28}, {30, 40}}},
		{func(s spans) spans { return s.remove(span{36, 40}) }, spans{{10, 28}, {30, 35}}},
		{func(s spans) spans { return s.remove(span{30, 50}) }, spans{{10, 28}}},
		{func(s spans) spans { return s.remove(span{12, 13}) }, spans{{10, 11}, {14, 28}}},
		{func(s spans) spans { return s.upTo(20) }, spans{{10, 11}, {14, 20}}},
		{func(s spans) spans { return s.add(span{1, 100}) }, spans{{1, 100}}},
		{func(s spans) spans { return s.upTo(0) }, nil},
	} {
		before := slices.Clone(s)
		next := tt.change(s)
		if !slices.Equal(next, tt.want) || !slices.Equal(s, before) {
			t.Fatalf("%v became %v (and was left as %v), want %v", before, next, s, tt.want)
		}
		s = next
	}
}

// TestSpansAreSets compares with sets of numbers.
func TestSpansAreSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var s spans
		set := make(map[uint64]bool)
		for range 30 {
			from := 1 + rnd.Uint64N(60)
			n := span{from, from + rnd.Uint64N(12)}
			op := rnd.IntN(5)
			switch {
			case op < 3:
				s = s.add(n)
			case op == 3:
				s = s.remove(n)
			default:
				s = s.upTo(n.to)
			}
			for seq := range uint64(80) {
				switch in := seq >= n.from && seq <= n.to; {
				case op < 3 && in:
					set[seq] = true
				case op == 3 && in, op == 4 && seq > n.to:
					delete(set, seq)
				}
			}
			for i, r := range s {
				if r.from > r.to || i > 0 && s[i-1].to+1 >= r.from {
					t.Fatalf("%v overlap, touch, or are out of order", s)
				}
			}
			for seq := range uint64(80) {
				if got := slices.ContainsFunc(s, func(r span) bool { return seq >= r.from && seq <= r.to }); got != set[seq] {
					t.Fatalf("%v, and %d in it should be %v", s, seq, set[seq])
				}
			}
			if s.records() != uint64(len(set)) {
				t.Fatalf("%v hold %d records, counted as %d", s, len(set), s.records())
			}
		}
	}
}
