package kapa

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// Journal is what the evaluator asks the journal: whether it has read all of it.
type Journal interface {
	State(ctx context.Context) (journal.State, error)
}

// Evaluator watches alerts by the journal. It is a projection: a runner calls Apply, Tick and Reset
// from one goroutine.
//
// An alert is evaluated at the multiples of its every, by the readings' own times, so that the
// outcome does not depend on when the evaluator runs. After an outage it goes through what the
// journal holds in the same steps. Changes that are old by then are not posted one by one: once the
// evaluator is up to date, it posts the outcome if that differs from what was last posted.
type Evaluator struct {
	store     *store
	deliverer *deliverer
	journal   Journal
	now       func() time.Time
	log       *slog.Logger
	metrics   evaluatorMetrics
	// write keeps states and posts, all of them or none. It is persist, but for a trial.
	write func(all []evaluation, now time.Time) error

	mu      sync.Mutex        // guards everything below; held while a change is written
	watches map[string]*watch // by the alerts' ids
	index   index             // of the watches
	applied uint64            // the last record that was taken
	marks   marks
	due     int64                     // no alert has to be evaluated before this moment
	live    time.Time                 // since when it is up to date; zero if it never was
	left    map[*group]*watch         // whose level is not what was last posted
	weight  int                       // what the groups hold in memory, in the unit of maxWeight
	relays  map[codec.RelayKey]string // relayKey of the relays of edges
	key     []byte                    // of a group or a collector, while it is looked up

	maxGroups, maxWeight int
}

// newEvaluator reads the alerts and their states.
func newEvaluator(store *store, o Options) (*Evaluator, error) {
	e := &Evaluator{store: store, deliverer: newDeliverer(store, o), journal: o.Journal, now: o.Now, log: o.Logger,
		metrics: newEvaluatorMetrics(o.Registerer), watches: map[string]*watch{}, maxGroups: maxGroups, maxWeight: maxWeight}
	e.write = e.persist
	alerts, err := store.list()
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

// run delivers what is to be posted.
func (e *Evaluator) run(ctx context.Context) { e.deliverer.run(ctx) }

// Reset forgets what was read: the next record follows position. A runner calls Reset before the
// first Apply, and when the journal turns out to be shorter than it was.
func (e *Evaluator) Reset(position uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.applied, e.marks = position, marks{base: position}
	for id, w := range e.watches {
		e.watches[id] = newWatch(w.alert, w.kept())
	}
	e.changed()
}

// changed follows a change of the watches. The next evaluation checks all of them.
func (e *Evaluator) changed() {
	e.index, e.due, e.weight, e.left = newIndex(e.watches), 0, 0, map[*group]*watch{}
	e.relays = map[codec.RelayKey]string{}
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

// put keeps and watches a new alert, or a changed one.
func (e *Evaluator) put(a Alert) (Alert, error) {
	// Under the lock, so that no evaluation writes the state of the alert as it was.
	e.mu.Lock()
	defer e.mu.Unlock()
	old, begin := e.watches[a.ID], newState(&a, e.now().UnixNano())
	sameTags := old != nil && maps.Equal(old.alert.Tags, a.Tags)
	sameGroups := old != nil && slices.Equal(old.alert.By, a.By)
	if sameGroups && old.alert.Name() == a.Name() {
		begin = old.kept()
		if !sameTags {
			begin.otherTags(&a)
		}
	}
	a, err := e.store.put(a, &begin)
	if err != nil {
		return a, err
	}
	w := newWatch(a, begin)
	if sameTags && sameGroups && old.alert.Metric == a.Metric && old.alert.Duration == a.Duration && old.width == w.width {
		w.takeWindows(old)
	}
	e.watches[a.ID] = w
	e.changed()
	e.deliverer.changed(a.ID)
	return a, nil
}

// remove takes an alert out of the store and out of the evaluator.
func (e *Evaluator) remove(id string) error {
	// Under the lock, so that no evaluation writes the state of an alert that is gone.
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.store.remove(id); err != nil {
		return err
	}
	delete(e.watches, id)
	e.changed()
	e.deliverer.poke()
	return nil
}

// position is before the first record that a window may still need.
func (e *Evaluator) position() uint64 {
	if len(e.watches) == 0 {
		e.marks = marks{base: e.applied, newest: e.marks.newest}
		return e.applied
	}
	oldest := int64(math.MaxInt64)
	for _, w := range e.watches {
		oldest = min(oldest, w.evaluated-int64(w.alert.Duration))
	}
	return e.marks.before(oldest)
}
