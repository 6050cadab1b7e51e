package journal

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Loss is a range of events that the journal held and lost.
type Loss struct {
	// From and To are the first and the last sequence number.
	From, To uint64
	// Reason is GapLost, or GapRewound (the numbers are used again).
	Reason string
	// Found is when the loss was noticed.
	Found time.Time
}

// Losses are all events that the journal lost, whether a reader came by or not. What retention dropped is no loss.
type Losses struct {
	// Events counts them since the journal was begun.
	Events uint64
	// Ranges are the newest 16 ranges found since the start, oldest first.
	Ranges []Loss
}

const (
	maxLosses = 16
	maxHoles  = 256
)

// losses collects them. Several readers, and a start, may find the same one.
type losses struct {
	mu     sync.Mutex
	events uint64
	known  []Hole // of GapLost, apart from each other, in order
	ranges []Loss
}

// add counts what of the range is not known yet.
func (l *losses) add(from, to uint64, reason string, now time.Time) {
	if from > to {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := []Hole{{from, to}}
	if reason == GapLost {
		fresh = l.unknown(Hole{from, to})
	}
	for _, s := range fresh {
		l.events += s.Last - s.First + 1
		l.ranges = append(l.ranges, Loss{From: s.First, To: s.Last, Reason: reason, Found: now})
	}
	l.ranges = l.ranges[max(0, len(l.ranges)-maxLosses):]
}

// unknown returns the parts of s that are not known, and remembers s.
func (l *losses) unknown(s Hole) (fresh []Hole) {
	rest := s
	joined := s
	var others []Hole
	for _, k := range l.known {
		if k.Last+1 < s.First || k.First > s.Last+1 {
			others = append(others, k)
			continue
		}
		joined = Hole{min(joined.First, k.First), max(joined.Last, k.Last)}
		if k.First > rest.First && rest.First <= rest.Last {
			fresh = append(fresh, Hole{rest.First, min(rest.Last, k.First-1)})
		}
		rest.First = max(rest.First, k.Last+1)
	}
	if rest.First <= rest.Last {
		fresh = append(fresh, rest)
	}
	l.known = append(others, joined)
	slices.SortFunc(l.known, func(a, b Hole) int { return cmp.Compare(a.First, b.First) })
	l.known = l.known[max(0, len(l.known)-maxHoles):]
	return fresh
}

// get returns a copy.
func (l *losses) get() Losses {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Losses{Events: l.events, Ranges: slices.Clone(l.ranges)}
}

// rewound forgets what was known from a number on: the numbers are used again.
func (l *losses) rewound(from uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.known[:0]
	for _, k := range l.known {
		if k.Last = min(k.Last, from-1); k.First <= k.Last {
			kept = append(kept, k)
		}
	}
	l.known = kept
}

// has reports whether the event seq is known to be lost.
func (l *losses) has(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.known, func(h Hole) bool { return h.First <= seq && seq <= h.Last })
}

// begin takes what earlier runs saved.
func (l *losses) begin(events uint64, known []Hole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.known = events, slices.Clone(known)
}

// saved returns what begin takes.
func (l *losses) saved() (events uint64, known []Hole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events, slices.Clone(l.known)
}

// Losses returns the events that the journal lost. It answers from memory.
func (j *Journal) Losses() Losses { return j.losses.get() }

// lost counts a gap of the journal and remembers it among the losses.
func (j *Journal) lost(g *GapError) {
	j.m.gap(g)
	switch g.Reason {
	case GapRetention:
		return
	case GapRewound:
		j.losses.rewound(g.From)
	}
	j.losses.add(g.From, g.To, g.Reason, j.o.Now())
}
