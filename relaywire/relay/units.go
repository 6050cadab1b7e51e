package relay

import (
	"slices"

	"github.com/nanopack/pulse/relaywire"
)

// WithUnits returns c with the units of its stats: unit returns what the values of a stat are in, as
// percent, bytes or seconds, or "" where that is not known. A server that takes units shows them
// beside the stat; others are not told. A stat with the collector's own name is asked for by that
// name. unit is called once a stat, by the goroutine that calls Collect. A unit that the protocol
// cannot carry is left out.
func WithUnits(c Collector, unit func(stat string) string) Collector {
	return united{Collector: c, unit: unit}
}

type united struct {
	Collector
	unit func(stat string) string
}

// unwrap returns the collector without what WithUnits and Sample put around it, in either order. The
// outermost of several counts.
func unwrap(c Collector) (bare Collector, s sampled, unit func(stat string) string) {
	for {
		switch outer := c.(type) {
		case sampled:
			if s.Collector == nil {
				s = outer
			}
			c = outer.Collector
		case united:
			if unit == nil {
				unit = outer.unit
			}
			c = outer.Collector
		default:
			return c, s, unit
		}
	}
}

// learn asks for the units of the stats that are new among the items. Only the collector's goroutine
// calls it.
func (w *worker) learn(items []relaywire.GotItem) {
	if w.unit == nil {
		return
	}
	var found []relaywire.UnitItem
	for _, it := range items {
		if w.asked[it.Stat] {
			continue
		}
		w.asked[it.Stat] = true
		if unit := w.unitOf(it.Stat); relaywire.ValidUnit(unit) {
			found = append(found, relaywire.UnitItem{Stat: it.Stat, Unit: unit})
		}
	}
	if len(found) == 0 {
		return
	}
	w.mu.Lock()
	w.units = append(w.units, found...)
	w.mu.Unlock()
	w.onUnits(found)
}

// unitOf returns "" if unit panics.
func (w *worker) unitOf(stat string) string {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("relay: the unit of a stat is not known, because its function panicked", "stat", stat, "panic", p)
		}
	}()
	return w.unit(stat)
}

// knownUnits returns a copy.
func (w *worker) knownUnits() []relaywire.UnitItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.units)
}

// sayUnits tells the server units if it takes them.
func (r *Relay) sayUnits(units []relaywire.UnitItem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil && r.session.takesUnits {
		r.session.send(func(dst []byte) []byte { return relaywire.AppendUnits(dst, units) })
	}
}

// hearTakes tells the server all units that are known, once the server has said that it takes them.
func (s *session) hearTakes(args []byte) {
	for word := range relaywire.Names(args) {
		if string(word) != relaywire.TakesUnits {
			continue
		}
		s.r.mu.Lock()
		s.takesUnits = true
		s.r.mu.Unlock()
		var units []relaywire.UnitItem
		for _, w := range s.r.all() {
			units = append(units, w.knownUnits()...)
		}
		s.send(func(dst []byte) []byte { return relaywire.AppendUnits(dst, units) })
	}
}
