package influx

import (
	"math"
	"time"
)

// edgeWindows are the windows of the relays of one edge, or of this Pulse's own relays. Each edge has
// windows of its own, because its events may be hours older than those of the others, when it was cut
// off for a while.
type edgeWindows struct {
	name    string    // "" for the own relays
	windows []*window // all in memory
	current *window   // of the last event
	// newest is the time of the last event, MinInt64 if there was none. It is not the highest time: a
	// clock that was once ahead must not close every window after it.
	newest int64
	heard  time.Time // when that event came
}

// clock returns the time at an edge, in ns since 1970: that of its last event, and what has passed
// since. While an edge catches up it is behind, and then a pause of its link makes nothing late.
func (e *edgeWindows) clock(now time.Time) int64 {
	if e.name == "" {
		return now.UnixNano()
	}
	return min(now.UnixNano(), e.newest+int64(now.Sub(e.heard)))
}

// edge returns the windows of an edge.
func (a *Aggregates) edge(name string) *edgeWindows {
	if last := a.lastEdge; last != nil && last.name == name {
		return last
	}
	e := a.edges[name]
	if e == nil {
		e = &edgeWindows{name: name, newest: math.MinInt64}
		a.mu.Lock()
		a.edges[name] = e
		a.mu.Unlock()
	}
	a.lastEdge = e
	return e
}

// knowEdges makes the edges that the index knows.
func (a *Aggregates) knowEdges() error {
	names, err := a.index.edges()
	for _, name := range names {
		a.edge(name)
	}
	return err
}

// countWindows counts the windows of all edges.
func (a *Aggregates) countWindows() {
	n := 0
	for _, e := range a.edges {
		n += len(e.windows)
	}
	a.inMemory.Set(float64(n))
}

// allWindows returns the windows of all edges.
func (a *Aggregates) allWindows() []*window { return a.those(func(*window) bool { return true }) }

// those returns the windows in memory for which is is true.
func (a *Aggregates) those(is func(*window) bool) (some []*window) {
	for _, e := range a.edges {
		for _, w := range e.windows {
			if is(w) {
				some = append(some, w)
			}
		}
	}
	return some
}
