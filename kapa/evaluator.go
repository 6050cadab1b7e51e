package kapa

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
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
	// maxSeen bounds what a deadman keeps; forgetSeen is after how long of silence it gives a collector up.
	maxSeen    = 10_000
	forgetSeen = 7 * 24 * time.Hour
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
}

// mark says that no record before seq is of time or later.
type mark struct {
	time int64
	seq  uint64
}

const markEvery = int64(10 * time.Second)

type evaluatorMetrics struct {
	evaluations, changes, coalesced, late prometheus.Counter
	firing                                prometheus.Gauge
}

func newEvaluator(store *Store, d *deliverer, o Options) (*Evaluator, error) {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_" + name, Help: help})
		o.Registerer.MustRegister(c)
		return c
	}
	e := &Evaluator{store: store, deliverer: d, journal: o.Journal, now: o.Now, log: o.Logger,
		watches: map[string]*watch{},
		metrics: evaluatorMetrics{
			evaluations: counter("evaluations_total", "Evaluations of an alert."),
			changes:     counter("changes_total", "Changes of an alert's level."),
			coalesced:   counter("coalesced_changes_total", "Changes of an alert's level that were old when found, and not posted one by one."),
			late:        counter("seen_overflows_total", "Readings of collectors beyond those that a deadman keeps."),
			firing:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_kapa_firing_alerts", Help: "Alerts that are not OK."}),
		}}
	o.Registerer.MustRegister(e.metrics.firing)
	alerts, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, a := range alerts {
		s, err := store.loadState(a.ID)
		if err != nil {
			return nil, err
		}
		if s.Evaluated == 0 { // made when there was a Kapacitor
			s.Evaluated = e.now().UnixNano()
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
		e.watches[id] = newWatch(w.alert, w.state)
	}
	e.changed()
}

// changed follows a change of the watches; the next evaluation looks at all.
func (e *Evaluator) changed() { e.index, e.due = newIndex(e.watches), 0 }

// put takes a new alert, or a changed one, which write keeps with the state that it begins with.
func (e *Evaluator) put(a Alert, write func(Alert, *state) (Alert, error)) (Alert, error) {
	// Under the lock, so that no evaluation writes the state of the alert as it was.
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.watches[a.ID]
	s := state{Evaluated: e.now().UnixNano()}
	if old != nil && old.alert.Name() == a.Name() {
		s = old.state
		if !maps.Equal(old.alert.Tags, a.Tags) {
			s.Seen, s.Silent = nil, nil // of readings that may not count any more
		}
	}
	a, err := write(a, &s)
	if err != nil {
		return a, err
	}
	w := newWatch(a, s)
	if old != nil && old.alert.Metric == a.Metric && maps.Equal(old.alert.Tags, a.Tags) && old.alert.Duration == a.Duration && old.width == w.width {
		w.slots = old.slots
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
		case r.Relay != nil && r.Relay.Kind == journal.RelayRemoved:
			for _, w := range e.watches {
				w.forgetCollector(r.Relay)
			}
		}
		e.applied = r.Seq
	}
	return e.position(), ctx.Err()
}

// take takes the readings of one event.
func (e *Evaluator) take(seq uint64, event *journal.Event) {
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
				w.add(event.Time, c.Stats[k].Value)
				if w.state.Seen != nil {
					e.see(w, event, c)
				}
			})
		}
	}
}

func (e *Evaluator) see(w *watch, event *journal.Event, c *journal.Collector) {
	key := seenKey(event.Relay, c.Name)
	at, known := w.state.Seen[key]
	if !known && len(w.state.Seen) >= maxSeen {
		e.metrics.late.Inc()
		return
	}
	w.state.Seen[key] = max(at, event.Time)
}

// position is before the first record that a window may still need.
func (e *Evaluator) position() uint64 {
	if len(e.watches) == 0 {
		e.marks, e.base = nil, e.applied
		return e.applied
	}
	oldest := int64(1<<63 - 1)
	for _, w := range e.watches {
		oldest = min(oldest, w.state.Evaluated-int64(w.alert.Duration))
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
		if limit := now.Add(time.Duration(w.alert.Every)).UnixNano(); w.state.Evaluated > limit {
			w.state.Evaluated = now.UnixNano() // the clock was ahead
			e.due = 0
		}
	}
	if err := e.evaluate(until.UnixNano()-int64(grace), now); err != nil {
		return e.position(), err
	}
	return e.position(), e.announceLeft(now)
}

// change is one alert's next state, before it is written.
type change struct {
	watch     *watch
	state     state
	at        int64
	announced bool
	body      []byte // to post, or nil
}

// evaluate evaluates what is due until then, moment by moment.
func (e *Evaluator) evaluate(until int64, now time.Time) error {
	for {
		first, found := int64(0), false
		for _, w := range e.watches {
			if at, ok := w.next(until); ok && (!found || at < first) {
				first, found = at, true
			}
		}
		if !found {
			break
		}
		var changes []change
		for _, w := range e.index.ordered {
			if at, ok := w.next(until); ok && at == first {
				changes = append(changes, e.judge(w, at, now))
			}
		}
		if err := e.commit(changes, now); err != nil {
			return err
		}
	}
	e.due = int64(1<<63 - 1)
	for _, w := range e.watches {
		every := int64(w.alert.Every)
		e.due = min(e.due, (floorDiv(w.state.Evaluated, every)+1)*every)
	}
	return nil
}

// judge finds an alert's state at a moment and changes nothing.
func (e *Evaluator) judge(w *watch, at int64, now time.Time) change {
	s := w.state
	s.Evaluated = at
	if mean, ok := w.mean(at); ok {
		s.Mean = &mean
		if s.Beyond {
			s.Beyond = !w.alert.over(mean)
		} else {
			s.Beyond = w.alert.Operator.Compare(mean, float64(w.alert.Threshold))
		}
	}
	isNews := now.UnixNano()-at <= int64(max(news, newsEvery*time.Duration(w.alert.Every))+grace)
	if s.Seen != nil && !e.live.IsZero() && isNews {
		s.Silent, s.Seen = silent(&w.alert, s, at, e.live.UnixNano())
	}
	level := Level("")
	if s.Beyond || len(s.Silent) > 0 {
		level = w.alert.Level
	}
	if level != s.Level {
		s.Level, s.Since = level, at
	}
	c := change{watch: w, state: s, at: at}
	if isNews && s.Level != s.Announced {
		c.announce()
	}
	return c
}

// silent lists the relays that sent nothing for the deadman's time, of which Pulse listened all the while. One that was missed
// before is missed until it speaks, however long Pulse has been listening.
func silent(a *Alert, s state, at, listening int64) ([]string, map[string]int64) {
	missing := map[string]bool{}
	kept := make(map[string]int64, len(s.Seen))
	for key, last := range s.Seen {
		if at-last > int64(forgetSeen) {
			continue
		}
		kept[key] = last
		since := max(last, listening)
		if slices.Contains(s.Silent, relayOf(key)) {
			since = last
		}
		if at-since > int64(a.Deadman) {
			missing[relayOf(key)] = true
		}
	}
	return slices.Sorted(maps.Keys(missing)), kept
}

// announceLeft posts, once up to date, what was found when it was no news any more.
func (e *Evaluator) announceLeft(now time.Time) error {
	var changes []change
	for _, w := range e.index.ordered {
		if w.state.Level != w.state.Announced {
			c := change{watch: w, state: w.state, at: w.state.Since}
			c.announce()
			changes = append(changes, c)
		}
	}
	return e.commit(changes, now)
}

// commit writes states and posts in one transaction; memory moves after it.
func (e *Evaluator) commit(changes []change, now time.Time) error {
	if len(changes) == 0 {
		return nil
	}
	posts, dropped := 0, 0
	err := e.store.db.Update(func(tx *bbolt.Tx) error {
		posts, dropped = 0, 0
		for i := range changes {
			c := &changes[i]
			if err := putJSON(bucket(tx, stateBucket), []byte(c.watch.alert.ID), c.state); err != nil {
				return err
			}
			if c.body == nil {
				continue
			}
			n, err := enqueue(tx, c.watch.alert.ID, delivery{Created: now.UnixNano(), Body: c.body})
			if err != nil {
				return err
			}
			posts++
			dropped += n
		}
		return nil
	})
	if err != nil {
		return &StateError{Err: err}
	}
	firing := 0
	for i := range changes {
		c := &changes[i]
		if c.watch.state.Evaluated != c.state.Evaluated {
			e.metrics.evaluations.Inc()
		}
		if c.state.Level != c.watch.state.Level {
			e.metrics.changes.Inc()
			e.log.Info("alert changed", "alert", c.watch.alert.ID, "name", c.watch.alert.Name(), "level", c.state.Level.Word())
			if !c.announced {
				e.metrics.coalesced.Inc()
			}
		}
		c.watch.state = c.state
		c.watch.forget(c.state.Evaluated)
	}
	for _, w := range e.watches {
		if w.state.Level != "" {
			firing++
		}
	}
	e.metrics.firing.Set(float64(firing))
	if dropped > 0 {
		e.deliverer.metrics.dropped.Add(float64(dropped))
	}
	if posts > 0 {
		e.deliverer.poke()
	}
	return nil
}

// StateError says that the state file did not take a change. The evaluator tries again.
type StateError struct{ Err error }

func (e *StateError) Error() string {
	return "kapa: the state file cannot be written (is the disk full?): " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *StateError) Unwrap() error { return e.Err }

// status is the evaluator's part of an alert's.
func (e *Evaluator) status(id string) Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{State: Executing, Level: Level("").Word()}
	if w := e.watches[id]; w != nil {
		s.Level, s.Value = w.state.Level.Word(), w.state.Mean
		if w.state.Since != 0 {
			since := time.Unix(0, w.state.Since).UTC()
			s.Since = &since
		}
	}
	return s
}

func (s *Store) loadState(id string) (st state, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		data := bucket(tx, stateBucket).Get([]byte(id))
		if data == nil {
			return nil
		}
		if err := json.Unmarshal(data, &st); err != nil {
			return errors.Join(err, unmarshalStored(id, data, &st))
		}
		return nil
	})
	return st, err
}
