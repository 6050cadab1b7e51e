package journal

import (
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

// Losses are all events that the journal lost, whether a reader came by or not. What retention
// dropped is no loss.
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
	known  Spans // of GapLost
	ranges []Loss
}

// add counts what of the range is not known yet.
func (l *losses) add(from, to uint64, reason string, now time.Time) {
	if from > to {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := Spans{{from, to}}
	if reason == GapLost {
		for _, known := range l.known {
			fresh = fresh.Remove(known)
		}
		l.known = l.known.Add(Span{from, to})
		l.known = l.known[max(0, len(l.known)-maxHoles):]
	}
	for _, s := range fresh {
		l.events += s.Records()
		l.ranges = append(l.ranges, Loss{From: s.First, To: s.Last, Reason: reason, Found: now})
	}
	l.ranges = l.ranges[max(0, len(l.ranges)-maxLosses):]
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
	l.known = l.known.Within(Span{Last: from - 1})
}

// has reports whether the event seq is known to be lost.
func (l *losses) has(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known.Within(Span{seq, seq})) > 0
}

// begin takes what earlier runs saved.
func (l *losses) begin(events uint64, known Spans) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.known = events, slices.Clone(known)
}

// saved returns what begin takes.
func (l *losses) saved() (events uint64, known Spans) {
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
