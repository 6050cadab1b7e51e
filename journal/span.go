package journal

import (
	"cmp"
	"slices"
)

// Span is a range of sequence numbers, both ends included. It is empty if First is greater than
// Last.
type Span struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Records returns how many numbers s has.
func (s Span) Records() uint64 {
	if s.First > s.Last {
		return 0
	}
	return s.Last - s.First + 1
}

// Spans are ranges of sequence numbers in ascending order, which neither overlap nor touch. The
// methods return new ones.
type Spans []Span

// Union returns the numbers of all the ranges, which are in any order and none of which is empty.
func Union(list []Span) Spans {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	var sum Spans
	for _, next := range list {
		if n := len(sum); n > 0 && next.First <= sum[n-1].Last+1 {
			sum[n-1].Last = max(sum[n-1].Last, next.Last)
		} else {
			sum = append(sum, next)
		}
	}
	return sum
}

// Add takes ranges in. Those that touch become one.
func (s Spans) Add(more ...Span) Spans { return Union(append(slices.Clip(s), more...)) }

// Remove takes a range out.
func (s Spans) Remove(n Span) Spans {
	var rest Spans
	for _, old := range s {
		if old.First < n.First {
			rest = append(rest, Span{old.First, min(old.Last, n.First-1)})
		}
		if old.Last > n.Last {
			rest = append(rest, Span{max(old.First, n.Last+1), old.Last})
		}
	}
	return rest
}

// Within returns what of s lies in n.
func (s Spans) Within(n Span) Spans {
	var in Spans
	for _, old := range s {
		if both := (Span{max(old.First, n.First), min(old.Last, n.Last)}); both.First <= both.Last {
			in = append(in, both)
		}
	}
	return in
}

// Join joins ranges that have at most gap numbers between them.
func (s Spans) Join(gap uint64) Spans {
	var joined Spans
	for _, next := range s {
		if n := len(joined); n > 0 && next.First-joined[n-1].Last-1 <= gap {
			joined[n-1].Last = next.Last
		} else {
			joined = append(joined, next)
		}
	}
	return joined
}

// AtMost joins the closest ranges until there are at most n, which is 1 or more.
func (s Spans) AtMost(n int) Spans {
	s = slices.Clone(s)
	for len(s) > n {
		closest := 1
		for i := 2; i < len(s); i++ {
			if s[i].First-s[i-1].Last < s[closest].First-s[closest-1].Last {
				closest = i
			}
		}
		s[closest-1].Last = s[closest].Last
		s = slices.Delete(s, closest, closest+1)
	}
	return s
}

// Records returns how many numbers all of s have.
func (s Spans) Records() (n uint64) {
	for _, r := range s {
		n += r.Records()
	}
	return n
}

// Last returns the highest number, 0 if there is none.
func (s Spans) Last() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].Last
}
