package journal

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSpans(t *testing.T) {
	var s Spans
	for _, tt := range []struct {
		change func(Spans) Spans
		want   Spans
	}{
		{func(s Spans) Spans { return s.Add(Span{10, 20}) }, Spans{{10, 20}}},
		{func(s Spans) Spans { return s.Add(Span{30, 40}) }, Spans{{10, 20}, {30, 40}}},
		{func(s Spans) Spans { return s.Add(Span{22, 28}) }, Spans{{10, 20}, {22, 28}, {30, 40}}},
		{func(s Spans) Spans { return s.Add(Span{21, 21}) }, Spans{{10, 28}, {30, 40}}},
		{func(s Spans) Spans { return s.Remove(Span{36, 40}) }, Spans{{10, 28}, {30, 35}}},
		{func(s Spans) Spans { return s.Remove(Span{30, 50}) }, Spans{{10, 28}}},
		{func(s Spans) Spans { return s.Remove(Span{12, 13}) }, Spans{{10, 11}, {14, 28}}},
		{func(s Spans) Spans { return s.Within(Span{0, 20}) }, Spans{{10, 11}, {14, 20}}},
		{func(s Spans) Spans { return s.Add(Span{1, 100}) }, Spans{{1, 100}}},
		{func(s Spans) Spans { return s.Within(Span{0, 0}) }, nil},
	} {
		before := slices.Clone(s)
		next := tt.change(s)
		if !slices.Equal(next, tt.want) || !slices.Equal(s, before) {
			t.Fatalf("%v became %v (and was left as %v), want %v", before, next, s, tt.want)
		}
		s = next
	}
}

// TestSpansAreSets compares Spans with sets of numbers.
func TestSpansAreSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var s Spans
		set := make(map[uint64]bool)
		for range 30 {
			from := 1 + rnd.Uint64N(60)
			n := Span{from, from + rnd.Uint64N(12)}
			op := rnd.IntN(5)
			switch {
			case op < 3:
				s = s.Add(n)
			case op == 3:
				s = s.Remove(n)
			default:
				s = s.Within(Span{0, n.Last})
			}
			for seq := range uint64(80) {
				switch in := seq >= n.First && seq <= n.Last; {
				case op < 3 && in:
					set[seq] = true
				case op == 3 && in, op == 4 && seq > n.Last:
					delete(set, seq)
				}
			}
			for i, r := range s {
				if r.First > r.Last || i > 0 && s[i-1].Last+1 >= r.First {
					t.Fatalf("%v overlap, touch, or are out of order", s)
				}
			}
			for seq := range uint64(80) {
				if got := slices.ContainsFunc(s, func(r Span) bool { return seq >= r.First && seq <= r.Last }); got != set[seq] {
					t.Fatalf("%v, and %d in it should be %v", s, seq, set[seq])
				}
			}
			if s.Records() != uint64(len(set)) {
				t.Fatalf("%v hold %d records, counted as %d", s, len(set), s.Records())
			}
		}
	}
}

func TestSpansJoined(t *testing.T) {
	s := Spans{{1, 2}, {5, 6}, {8, 9}, {20, 30}}
	before := slices.Clone(s)
	for gap, want := range map[uint64]Spans{0: s, 1: {{1, 2}, {5, 9}, {20, 30}}, 2: {{1, 9}, {20, 30}}, 100: {{1, 30}}} {
		if got := s.Join(gap); !slices.Equal(got, want) {
			t.Errorf("joined over %d: %v", gap, got)
		}
	}
	for n, want := range map[int]Spans{9: s, 4: s, 3: {{1, 2}, {5, 9}, {20, 30}}, 2: {{1, 9}, {20, 30}}, 1: {{1, 30}}} {
		if got := s.AtMost(n); !slices.Equal(got, want) {
			t.Errorf("at most %d: %v", n, got)
		}
	}
	if !slices.Equal(s, before) || s.Last() != 30 || (Spans{}).Last() != 0 || (Span{5, 4}).Records() != 0 {
		t.Errorf("%v", s)
	}
}
