package relay

import (
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire/relay/internal/spool"
)

const (
	// unknownInterval is how often a collector is collected until a server has said how often it
	// polls.
	unknownInterval = time.Minute
	// shortestGrace and longestGrace bound how late a poll may be: half its interval.
	shortestGrace = 250 * time.Millisecond
	longestGrace  = 5 * time.Second
)

// turns knows when the relay collects by itself: each collector at the interval at which the server
// polls it, once a poll is overdue.
type turns struct {
	r   *Relay
	log *spool.Log // remembers the interval

	mu  sync.Mutex           // guards due; taken before Relay.mu
	due map[string]time.Time // of each collector, if no poll comes before
}

// interval is how often the collector is polled.
func (ts *turns) interval(w *worker) time.Duration {
	if d := w.overridden(); d > 0 {
		return d
	}
	if d := ts.log.Interval(); d > 0 {
		return d
	}
	return unknownInterval
}

// late is how long after a poll or a turn the next one is the relay's own.
func late(interval time.Duration) time.Duration {
	return interval + min(max(interval/2, shortestGrace), longestGrace)
}

// polled notes a poll of the collectors. It reports whether a turn is earlier now.
func (ts *turns) polled(now time.Time, names []string) (earlier bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, name := range names {
		w := ts.r.find(name)
		if w == nil {
			continue
		}
		due, old := now.Add(late(ts.interval(w))), ts.due[name]
		earlier = earlier || due.Before(old)
		ts.due[name] = due
	}
	return earlier
}

// next returns the collectors whose turn it is, and when it is the next one's turn. Turns that are
// close to each other are one.
func (ts *turns) next(now time.Time) (names []string, next time.Time) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	next = now.Add(time.Hour)
	known := ts.r.names()
	for _, name := range known {
		w := ts.r.find(name)
		if w == nil {
			continue
		}
		interval := ts.interval(w)
		due, ok := ts.due[name]
		if last := now.Add(late(interval)); !ok || due.After(last) {
			due = last // it is new, or its interval is shorter now
		}
		if due.Sub(now) <= interval/20 {
			names = append(names, name)
			if due = due.Add(interval); !due.After(now) {
				due = now.Add(interval) // never a burst
			}
		}
		ts.due[name] = due
		if due.Before(next) {
			next = due
		}
	}
	for name := range ts.due {
		if _, ok := slices.BinarySearch(known, name); !ok {
			delete(ts.due, name)
		}
	}
	return names, next
}
