package relay

import (
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// answer reduces the samples since the last poll, or takes a sample if there are none.
func (w *worker) answer() []relaywire.GotItem {
	w.step()
	items := w.take()
	if len(items) == 0 {
		w.sample()
		items = w.take()
	}
	for stat, g := range w.gathered {
		if !g.fresh {
			delete(w.gathered, stat) // no sample since the previous poll
		}
		g.fresh = false
	}
	w.learn(items)
	values := make(map[string]float64, len(items))
	for _, it := range items {
		values[it.Stat] = it.Value
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.info.Values, w.info.Answered = values, time.Now()
	return items
}

func (w *worker) take() (items []relaywire.GotItem) {
	notFinite := uint64(0)
	for _, stat := range sortedKeys(w.gathered) {
		v, ok := w.gathered[stat].take(w.reduce)
		switch {
		case !ok:
		case !finite(v):
			notFinite++ // the sum of large samples can overflow
		default:
			items = append(items, relaywire.GotItem{Collector: w.name, Stat: stat, Value: v})
		}
	}
	w.count(notFinite, 0)
	return items
}

// sample collects once and gathers the values.
func (w *worker) sample() {
	values, ok := w.collect()
	if !ok {
		return
	}
	notFinite, badNames := uint64(0), uint64(0)
	for stat, v := range values {
		if stat == "" {
			stat = w.name
		}
		switch {
		case !relaywire.ValidName(stat):
			badNames++
			continue
		case !finite(v):
			notFinite++
			continue
		}
		g := w.gathered[stat]
		if g == nil {
			g = &gathered{}
			w.gathered[stat] = g
		}
		g.add(w.reduce, v)
	}
	w.count(notFinite, badNames)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// count adds to the counters and logs the first time that each is raised.
func (w *worker) count(notFinite, badNames uint64) {
	if notFinite+badNames == 0 {
		return
	}
	w.mu.Lock()
	firstValue, firstName := w.info.NotFinite == 0 && notFinite > 0, w.info.BadNames == 0 && badNames > 0
	w.info.NotFinite += notFinite
	w.info.BadNames += badNames
	w.mu.Unlock()
	if firstValue {
		w.log.Warn("relay: values that are not finite are left out; this is said once")
	}
	if firstName {
		w.log.Warn("relay: stats whose names hold '-', ':', ',' or control characters, or are " + relaywire.Reserved + ", are left out; this is said once")
	}
}

// collect calls Collect. ok is false if it panicked.
func (w *worker) collect() (values map[string]float64, ok bool) {
	w.mu.Lock()
	w.info.Collections++
	w.info.Running = time.Now()
	w.mu.Unlock()
	returned := false
	defer func() {
		p := recover()
		if p == nil && !returned {
			p = "runtime.Goexit was called"
		}
		w.mu.Lock()
		took, warned := time.Since(w.info.Running), w.warned
		w.info.Running, w.warned = time.Time{}, false
		if p != nil {
			w.info.Panics++
			w.info.LastError = &Error{Op: "collect", Subject: w.name, Err: ErrPanic, Detail: fmt.Sprint(p)}
		}
		w.mu.Unlock()
		if p != nil {
			w.log.Error("relay: this collector panicked", "panic", p, "stack", string(debug.Stack()))
		}
		if warned {
			w.log.Info("relay: this collector returned after all", "took", took)
		}
	}()
	values = w.c.Collect()
	returned = true
	return values, true
}
