package relay

import (
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relay/internal/spool"
)

const (
	// unknownInterval is how often a collector that was never polled is collected.
	unknownInterval = time.Minute
	// shortestGrace and longestGrace bound how late a poll may be: half its interval.
	shortestGrace = 250 * time.Millisecond
	longestGrace  = 5 * time.Second
)

// turns knows when the relay collects by itself: each collector at the interval at which it was last
// polled, once a poll is overdue.
type turns struct {
	r   *Relay
	log *spool.Log // remembers the intervals

	mu  sync.Mutex // guards all; taken before Relay.mu
	all map[string]*turn
}

// turn is that of one collector.
type turn struct {
	interval time.Duration // 0 if not known
	sure     bool          // two gaps have agreed on interval
	gap      time.Duration // between the last two polls of this connection; 0 if there were not two
	polled   time.Time     // the last poll of this connection
	due      time.Time
}

// used is the interval to collect at. Polls come a little early or late, so it is rounded.
func (t *turn) used() time.Duration {
	switch rounded := t.interval.Round(100 * time.Millisecond); {
	case t.interval == 0:
		return unknownInterval
	case rounded >= time.Second:
		return rounded
	}
	return max(t.interval.Round(10*time.Millisecond), MinInterval)
}

func (t *turn) grace() time.Duration {
	return min(max(t.used()/2, shortestGrace), longestGrace)
}

// learn takes gap for the interval if the gap before it was about the same: the first poll of a
// connection comes at once, and after a server that was held up one gap is long and the next one
// short. Without anything better, any gap is taken.
func (t *turn) learn(gap time.Duration) {
	switch {
	case !t.sure:
		t.interval, t.sure = gap, gap > 0 && similar(gap, t.gap)
	case similar(gap, t.interval):
		t.interval += (gap - t.interval) / 8
	case similar(gap, t.gap):
		t.interval = (gap + t.gap) / 2
	}
	t.gap = gap
}

func similar(a, b time.Duration) bool { return 4*max(a, b) <= 5*min(a, b) }

// polled notes a poll of the collectors. It reports whether a turn is earlier now.
func (ts *turns) polled(now time.Time, names []string) (earlier bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, name := range names {
		if ts.r.find(name) == nil {
			continue
		}
		t := ts.turn(now, name)
		if !t.polled.IsZero() {
			t.learn(now.Sub(t.polled))
			ts.log.SetInterval(name, t.used())
		}
		t.polled = now
		due := now.Add(t.used() + t.grace())
		earlier = earlier || due.Before(t.due)
		t.due = due
	}
	return earlier
}

// turn returns the collector's turn. That of a new collector begins now.
func (ts *turns) turn(now time.Time, name string) *turn {
	t := ts.all[name]
	if t == nil {
		t = &turn{interval: ts.log.Interval(name)}
		t.sure = t.interval > 0
		t.due = now.Add(t.used() + t.grace())
		ts.all[name] = t
	}
	return t
}

// disconnected notes that the next poll says nothing about the interval.
func (ts *turns) disconnected() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.all {
		t.polled, t.gap = time.Time{}, 0
	}
}

// due returns the collectors whose turn it is, and when it is the next one's turn. Turns that are
// close to each other are one.
func (ts *turns) due(now time.Time) (names []string, next time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	next = now.Add(time.Hour)
	known := ts.r.names()
	for _, name := range known {
		t := ts.turn(now, name)
		interval := t.used()
		if t.due.Sub(now) <= interval/20 {
			names = append(names, name)
			if t.due = t.due.Add(interval); !t.due.After(now) {
				t.due = now.Add(interval) // never a burst
			}
		}
		if t.due.Before(next) {
			next = t.due
		}
	}
	for name := range ts.all {
		if _, ok := slices.BinarySearch(known, name); !ok {
			delete(ts.all, name)
		}
	}
	return names, next
}
