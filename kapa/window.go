package kapa

import (
	"strings"

	"github.com/nanopack/pulse/journal"
)

// state is what the evaluator keeps of an alert in the state file. Times are nanoseconds since 1970 UTC.
type state struct {
	Evaluated int64            `json:"evaluated"`           // the last moment that was evaluated, or at which the alert was made
	Beyond    bool             `json:"beyond,omitempty"`    // the mean crossed the threshold and did not come back
	Silent    []string         `json:"silent,omitempty"`    // relays that the deadman misses
	Level     Level            `json:"level,omitempty"`     // as it fires, "" is OK
	Since     int64            `json:"since,omitempty"`     // when Level became that
	Announced Level            `json:"announced,omitempty"` // the level that was last posted (or queued for it)
	Began     int64            `json:"began,omitempty"`     // when the announced level left OK
	Mean      *float64         `json:"mean,omitempty"`      // of the last evaluation that had one
	Seen      map[string]int64 `json:"seen,omitempty"`      // with a deadman: the newest reading by relay and collector
}

// watch is an alert in the evaluator.
type watch struct {
	alert Alert
	state state
	// Readings are summed by slots that both duration and every are multiples of, so that a window is a whole number of
	// slots, and the mean over it exact.
	width   int64
	slots   map[int64]*slot // by number: time / width
	current *slot           // the one of the last reading
	number  int64
}

type slot struct{ total }

func newWatch(a Alert, s state) *watch {
	w := &watch{alert: a, state: s, width: int64(gcd(a.Duration, a.Every)), slots: map[int64]*slot{}}
	if a.Deadman == 0 {
		w.state.Seen, w.state.Silent = nil, nil
	} else if w.state.Seen == nil {
		w.state.Seen = map[string]int64{}
	}
	return w
}

func gcd(a, b Duration) Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// matches says whether a reading with these tags of this relay counts. A tag's first value wins, and the relay's id is the host
// whatever it says itself.
func (w *watch) matches(relay string, tags []string) bool {
next:
	for key, want := range w.alert.Tags {
		if key == "host" {
			if relay != want {
				return false
			}
			continue
		}
		for _, tag := range tags {
			if k, v, ok := strings.Cut(tag, ":"); ok && k == key {
				if v != want {
					return false
				}
				continue next
			}
		}
		return false
	}
	return true
}

// add takes a reading.
func (w *watch) add(at int64, value float64) {
	n := floorDiv(at, w.width)
	if w.current == nil || w.number != n {
		s := w.slots[n]
		if s == nil {
			s = &slot{}
			w.slots[n] = s
		}
		w.current, w.number = s, n
	}
	w.current.add(value)
}

// mean is that of the readings in [at-duration, at); at and duration are multiples of the width.
func (w *watch) mean(at int64) (float64, bool) {
	first, end := floorDiv(at-int64(w.alert.Duration), w.width), floorDiv(at, w.width)
	var all total
	// In order, so that the same readings always have the same sum; the map is smaller than the window if few slots have readings.
	for n := first; n < end; n++ {
		if s := w.slots[n]; s != nil {
			all.merge(s.total)
		}
	}
	return all.mean()
}

// forget drops the slots that no window after at needs.
func (w *watch) forget(at int64) {
	first := floorDiv(at-int64(w.alert.Duration), w.width)
	for n := range w.slots {
		if n < first {
			delete(w.slots, n)
			if w.number == n {
				w.current = nil
			}
		}
	}
}

// next is the next moment to evaluate, if that is not after until. Where there is nothing to evaluate, it is the last
// such moment: nobody's state changes by there being no readings for days.
func (w *watch) next(until int64) (int64, bool) {
	every := int64(w.alert.Every)
	at := (floorDiv(w.state.Evaluated, every) + 1) * every
	if len(w.slots) == 0 {
		at = max(at, floorDiv(until, every)*every)
	}
	return at, at <= until
}

// forgetCollector takes a collector that its relay removed out of the deadman's list: that is not silence.
func (w *watch) forgetCollector(e *journal.RelayEvent) {
	if w.state.Seen != nil {
		delete(w.state.Seen, seenKey(e.Relay, e.Collector))
	}
}

func seenKey(relay, collector string) string { return relay + "\x00" + collector }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
