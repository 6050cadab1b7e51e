package kapa

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// grace is how long after a moment it is evaluated: readings that arrived before it are in the journal by then.
	grace = time.Second
	// news is how old a change may be when it is found, to be posted all the same: a restart is no outage. Where
	// evaluations are rare, it is newsEvery of them.
	news      = time.Minute
	newsEvery = 2
	// near is how far behind the newest record that was applied may be for the evaluator to count as up to date.
	near = 5 * time.Second
)

// Journal is what the evaluator asks the journal: whether it has seen all of it.
type Journal interface {
	State(ctx context.Context) (journal.State, error)
}

// Evaluator watches alerts by the journal. It is a projection: a runner calls Apply, Tick and Reset from one goroutine.
//
// An alert is evaluated at the multiples of its every, by the readings' own times, so that what it finds does not depend on
// when it looks: after an outage it goes through what the journal holds in the same steps. Changes that are no
// news any more are not posted one by one; once it is up to date, it posts the outcome if that differs from what was
// last posted.
type Evaluator struct {
	store     *Store
	deliverer *deliverer
	journal   Journal
	now       func() time.Time
	log       *slog.Logger
	metrics   evaluatorMetrics

	mu      sync.Mutex        // guards everything below; held while a change is written
	watches map[string]*watch // by the alerts' ids
	index   index             // of the watches
	applied uint64            // the last record that was taken
	newest  int64             // the latest time of an event so far
	base    uint64            // the position that was begun at
	marks   []mark            // ascending
	due     int64             // no alert has to be evaluated before this moment
	live    time.Time         // since when it is up to date; zero if it never was
	left    map[*group]*watch // whose level is not what was last posted
	weight  int               // what the groups hold in memory, in the unit of maxWeight
	key     []byte            // of a group or a collector, while it is looked up

	maxGroups, maxWeight int
}

// mark says that no record before seq is of time or later.
type mark struct {
	time int64
	seq  uint64
}

const markEvery = int64(10 * time.Second)

type evaluatorMetrics struct {
	evaluations, changes, coalesced, late, refused prometheus.Counter
	firing, groups                                 prometheus.Gauge
}

func newEvaluator(store *Store, d *deliverer, o Options) (*Evaluator, error) {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_" + name, Help: help})
		o.Registerer.MustRegister(c)
		return c
	}
	e := &Evaluator{store: store, deliverer: d, journal: o.Journal, now: o.Now, log: o.Logger,
		watches: map[string]*watch{}, maxGroups: maxGroups, maxWeight: maxWeight,
		metrics: evaluatorMetrics{
			evaluations: counter("evaluations_total", "Evaluations of an alert."),
			changes:     counter("changes_total", "Changes of the level of an alert, or of a group of one."),
			coalesced:   counter("coalesced_changes_total", "Changes of a level that were old when found, and not posted one by one."),
			late:        counter("seen_overflows_total", "Readings of collectors beyond those that a deadman keeps."),
			refused:     counter("group_overflows_total", "Readings of groups beyond those that alerts watch."),
			firing:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_kapa_firing_alerts", Help: "Alerts that are not OK."}),
			groups:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_kapa_groups", Help: "Groups of the alerts that have some."}),
		}}
	o.Registerer.MustRegister(e.metrics.firing, e.metrics.groups)
	alerts, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, a := range alerts {
		s, err := store.loadState(&a, e.now())
		if err != nil {
			return nil, err
		}
		e.watches[a.ID] = newWatch(a, s)
	}
	e.changed()
	return e, nil
}

// Name is "alerts".
func (e *Evaluator) Name() string { return "alerts" }

// Reset forgets what was read: the next record follows position. A runner says so before the first Apply, and when
// the journal turns out to be shorter than it was.
func (e *Evaluator) Reset(position uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.applied, e.base, e.newest, e.marks = position, position, 0, nil
	for id, w := range e.watches {
		e.watches[id] = newWatch(w.alert, w.kept())
	}
	e.changed()
}

// changed follows a change of the watches; the next evaluation looks at all.
func (e *Evaluator) changed() {
	e.index, e.due, e.weight, e.left = newIndex(e.watches), 0, 0, map[*group]*watch{}
	for _, w := range e.watches {
		for _, g := range w.groups {
			if w.only == nil {
				e.weight += w.weight
			}
			e.weight += len(g.state.Seen)
			if g.state.Level != g.state.Announced {
				e.left[g] = w
			}
		}
	}
}

// put takes a new alert, or a changed one, which write keeps with the state that it begins with.
func (e *Evaluator) put(a Alert, write func(Alert, *keptState) (Alert, error)) (Alert, error) {
	// Under the lock, so that no evaluation writes the state of the alert as it was.
	e.mu.Lock()
	defer e.mu.Unlock()
	a = a.withDefaults()
	old, now := e.watches[a.ID], e.now().UnixNano()
	begin := keptState{state: state{Evaluated: now}}
	if len(a.By) == 0 {
		begin.Born = now
	}
	if old != nil && old.alert.Name() == a.Name() && slices.Equal(old.alert.By, a.By) {
		begin = old.kept()
		if !maps.Equal(old.alert.Tags, a.Tags) {
			begin.otherTags()
		}
	}
	a, err := write(a, &begin)
	if err != nil {
		return a, err
	}
	w := newWatch(a, begin)
	if old != nil && old.alert.Metric == a.Metric && maps.Equal(old.alert.Tags, a.Tags) && slices.Equal(old.alert.By, a.By) &&
		old.alert.Duration == a.Duration && old.width == w.width {
		w.takeWindows(old)
	}
	e.watches[a.ID] = w
	e.changed()
	return a, nil
}

// delete takes an alert out of the store and out of here.
func (e *Evaluator) delete(id string) error {
	// Under the lock, so that no evaluation writes the state of an alert that is gone.
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.store.Delete(id); err != nil {
		return err
	}
	delete(e.watches, id)
	e.changed()
	e.deliverer.poke()
	return nil
}

// Apply takes the readings of the records, and evaluates what is due by their times. The error is the state file's; nothing
// moved then but the records before.
func (e *Evaluator) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for i := range records {
		r := &records[i]
		if r.Seq <= e.applied {
			continue // offered again after an error
		}
		if e.base == 0 && e.applied == 0 {
			e.base = r.Seq - 1
		}
		switch {
		case r.Event != nil:
			// A time ahead of the clock is the clock's mistake, then or now.
			at := min(r.Event.Time, now.UnixNano())
			if until := at - int64(grace); until >= e.due {
				if err := e.evaluate(until, now); err != nil {
					return e.position(), err
				}
			}
			e.take(r.Seq, r.Event)
		case r.Relay == nil:
		case r.Relay.Kind == codec.RelayRemoved:
			for _, w := range e.watches {
				w.removeCollector(r.Relay)
			}
		case r.Relay.Kind == codec.RelayForgotten:
			if err := e.forgetRelay(r.Relay, now); err != nil {
				return e.position(), err
			}
		}
		e.applied = r.Seq
	}
	return e.position(), ctx.Err()
}

// take takes the readings of one event.
func (e *Evaluator) take(seq uint64, event *codec.Event) {
	if event.Time > e.newest {
		if event.Time/markEvery > e.newest/markEvery && len(e.watches) > 0 {
			e.marks = append(e.marks, mark{event.Time / markEvery * markEvery, seq})
		}
		e.newest = event.Time
	}
	for i := range event.Collectors {
		c := &event.Collectors[i]
		for k := range c.Stats {
			e.index.find(c.Stats[k].ID, event.Relay, c, func(w *watch) {
				g := w.only
				if g == nil {
					if g = e.find(w, event, c); g == nil {
						return
					}
				}
				w.take(g, event.Time, event.Relay, c.Stats[k].Value)
				if w.deadman {
					e.see(w, g, event, c)
				}
			})
		}
	}
}

// position is before the first record that a window may still need.
func (e *Evaluator) position() uint64 {
	if len(e.watches) == 0 {
		e.marks, e.base = nil, e.applied
		return e.applied
	}
	oldest := int64(1<<63 - 1)
	for _, w := range e.watches {
		oldest = min(oldest, w.evaluated-int64(w.alert.Duration))
	}
	keep := 0
	for keep < len(e.marks) && e.marks[keep].time <= oldest {
		e.base = e.marks[keep].seq - 1
		keep++
	}
	e.marks = e.marks[keep:]
	return e.base
}

// Tick evaluates what is due by the clock, once everything that the journal holds was applied: only then is what is
// missing known to be missing.
func (e *Evaluator) Tick(ctx context.Context, now time.Time) (uint64, error) {
	s, err := e.journal.State(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		return e.position(), err
	}
	until := now
	if e.applied < s.LastSeq {
		// Something always comes in between on a busy server.
		until = time.Unix(0, min(e.newest, now.UnixNano()))
		if now.Sub(until) > near {
			return e.position(), nil
		}
	}
	if e.live.IsZero() || now.Before(e.live) {
		e.live = now
	}
	for _, w := range e.watches {
		if limit := now.Add(time.Duration(w.alert.Every)).UnixNano(); w.evaluated > limit {
			w.evaluated = now.UnixNano() // the clock was ahead
			e.due = 0
		}
	}
	if err := e.evaluate(until.UnixNano()-int64(grace), now); err != nil {
		return e.position(), err
	}
	return e.position(), e.announceLeft(now)
}

// StateError says that the state file did not take a change. The evaluator tries again.
type StateError struct{ Err error }

func (e *StateError) Error() string {
	return "kapa: the state file cannot be written (is the disk full?): " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *StateError) Unwrap() error { return e.Err }
