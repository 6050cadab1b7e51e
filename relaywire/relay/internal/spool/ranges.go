package spool

import (
	"slices"
	"sort"
)

// Range is the records First to Last, both included.
type Range struct{ First, Last uint64 }

// Len is how many numbers r holds; 0 for the zero Range.
func (r Range) Len() int {
	if r.First == 0 || r.First > r.Last {
		return 0
	}
	return int(r.Last - r.First + 1)
}

// ranges is a set of numbers: ranges in ascending order that neither overlap nor touch.
type ranges []Range

// at returns the last range that begins at n or before it; ok is false if there is none.
func (rs ranges) at(n uint64) (r Range, ok bool) {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].First > n })
	if i == 0 {
		return Range{}, false
	}
	return rs[i-1], true
}

func (rs ranges) has(n uint64) bool {
	r, ok := rs.at(n)
	return ok && n <= r.Last
}

// count returns how many numbers of r are in the set.
func (rs ranges) count(r Range) (n int) {
	for i := rs.search(r.First); i < len(rs) && rs[i].First <= r.Last; i++ {
		n += Range{max(rs[i].First, r.First), min(rs[i].Last, r.Last)}.Len()
	}
	return n
}

// search returns the index of the first range that ends at n or after it.
func (rs ranges) search(n uint64) int {
	return sort.Search(len(rs), func(i int) bool { return rs[i].Last >= n })
}

func (rs *ranges) add(r Range) {
	if r.Len() == 0 {
		return
	}
	i := rs.search(r.First - 1) // a range that ends just before r becomes a part of it
	j := i
	for ; j < len(*rs) && (*rs)[j].First <= r.Last+1; j++ {
		r.First, r.Last = min(r.First, (*rs)[j].First), max(r.Last, (*rs)[j].Last)
	}
	*rs = slices.Replace(*rs, i, j, r)
}

func (rs *ranges) remove(r Range) {
	if r.Len() == 0 {
		return
	}
	i := rs.search(r.First)
	j := i
	var rest []Range
	for ; j < len(*rs) && (*rs)[j].First <= r.Last; j++ {
		old := (*rs)[j]
		if old.First < r.First {
			rest = append(rest, Range{old.First, r.First - 1})
		}
		if old.Last > r.Last {
			rest = append(rest, Range{r.Last + 1, old.Last})
		}
	}
	*rs = slices.Replace(*rs, i, j, rest...)
}
