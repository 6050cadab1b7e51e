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

	mu  sync.Mutex      // guards due; taken before Relay.mu
	due map[string]turn // of each collector, if no poll comes before
}

// turn is when the relay collects by itself. grace is how much of that it waits for a late poll.
type turn struct {
	at    time.Time
	grace time.Duration
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

// afterPoll is the turn if no poll comes after the one of now.
func afterPoll(now time.Time, interval time.Duration) turn {
	grace := min(max(interval/2, shortestGrace), longestGrace)
	return turn{now.Add(interval + grace), grace}
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
		next := afterPoll(now, ts.interval(w))
		earlier = earlier || next.at.Before(ts.due[name].at)
		ts.due[name] = next
	}
	return earlier
}

// disconnected takes the graces away: no poll will come late.
func (ts *turns) disconnected() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for name, t := range ts.due {
		ts.due[name] = turn{at: t.at.Add(-t.grace)}
	}
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
		t, ok := ts.due[name]
		if last := afterPoll(now, interval); !ok || t.at.After(last.at) {
			t = last // it is new, or its interval is shorter now
		}
		if t.at.Sub(now) <= interval/20 {
			names = append(names, name)
			if t = (turn{at: t.at.Add(interval)}); !t.at.After(now) {
				t.at = now.Add(interval) // never a burst
			}
		}
		ts.due[name] = t
		if t.at.Before(next) {
			next = t.at
		}
	}
	for name := range ts.due {
		if _, ok := slices.BinarySearch(known, name); !ok {
			delete(ts.due, name)
		}
	}
	return names, next
}
