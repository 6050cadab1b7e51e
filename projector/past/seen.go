package past

import (
	"fmt"
	"slices"
	"time"
)

const (
	// defaultQuiet is two polls of a minute.
	defaultQuiet = 2 * time.Minute
	// maxSeen bounds the stretches that are kept of a part, and maxHoles the notes about what is
	// between them.
	maxSeen  = 128
	maxHoles = 5
)

// Stretch is a piece of time in which there were events: from the first to the last of them, in ns.
type Stretch struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Seen are the stretches that were gone over, in order, with more than quiet between any two of
// them. The zero value is none.
type Seen []Stretch

// Add takes in another stretch, and joins those that quiet or less lies between. The events of a
// step come about in order, so it looks from the end.
func (s Seen) Add(x Stretch, quiet time.Duration) Seen {
	i := len(s)
	for i > 0 && s[i-1].From > x.From {
		i--
	}
	s = slices.Insert(s, i, x)
	for i > 0 && s[i].From-s[i-1].To <= int64(quiet) {
		s[i-1].To = max(s[i-1].To, s[i].To)
		s = slices.Delete(s, i, i+1)
		i--
	}
	for i+1 < len(s) && s[i+1].From-s[i].To <= int64(quiet) {
		s[i].To = max(s[i].To, s[i+1].To)
		s = slices.Delete(s, i+1, i+2)
	}
	if len(s) > maxSeen { // the shortest hole is forgotten
		shortest := 1
		for j := 2; j < len(s); j++ {
			if s[j].From-s[j-1].To < s[shortest].From-s[shortest-1].To {
				shortest = j
			}
		}
		s[shortest-1].To = s[shortest].To
		s = slices.Delete(s, shortest, shortest+1)
	}
	return s
}

// holes are the pieces of a range that hold nothing for longer than quiet.
func (s Seen) holes(from, to time.Time, quiet time.Duration) (list []Stretch) {
	at := from.UnixNano()
	for _, x := range append(slices.Clone(s), Stretch{to.UnixNano(), to.UnixNano()}) {
		if end := min(x.From, to.UnixNano()); end-at > int64(quiet) {
			list = append(list, Stretch{at, end})
		}
		at = max(at, x.To)
	}
	return list
}

// notes say which parts of a range there was nothing for.
func (s Seen) notes(from, to time.Time, quiet time.Duration) (notes []string) {
	list := s.holes(from, to, quiet)
	if len(s) == 0 { // also of a range that is shorter than quiet
		list = []Stretch{{from.UnixNano(), to.UnixNano()}}
	}
	longest := slices.Clone(list)
	slices.SortStableFunc(longest, func(a, b Stretch) int { return int(min(max(b.To-b.From-(a.To-a.From), -1), 1)) })
	shortest := int64(0) // that is told
	if len(longest) > maxHoles {
		shortest = longest[maxHoles-1].To - longest[maxHoles-1].From
	}
	others, together := 0, int64(0)
	for _, hole := range list {
		if hole.To-hole.From < shortest || len(notes) == maxHoles {
			others, together = others+1, together+hole.To-hole.From
			continue
		}
		notes = append(notes, fmt.Sprintf("the journal has nothing from %s to %s", second(hole.From), second(hole.To)))
	}
	if others > 0 {
		notes = append(notes, fmt.Sprintf("nor in %d shorter pieces, %s together", others, time.Duration(together).Round(time.Second)))
	}
	return notes
}

func second(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }
