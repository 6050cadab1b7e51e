package kapa

import (
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// maxLogged is how many groups of one alert that change at once have a line in the log each.
const maxLogged = 10

// commit writes states and posts. Memory changes after they are written.
func (e *Evaluator) commit(all []evaluation, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
	if err := e.write(all, now); err != nil {
		return err
	}
	for i := range all {
		e.move(&all[i])
	}
	firing, groups := 0, 0
	for _, w := range e.watches {
		if w.firing > 0 {
			firing++
		}
		if w.only == nil {
			groups += len(w.groups)
		}
	}
	e.metrics.firing.Set(float64(firing))
	e.metrics.groups.Set(float64(groups))
	return nil
}

// persist writes states and posts into the state file, in one transaction, and has the posts
// delivered.
func (e *Evaluator) persist(all []evaluation, now time.Time) error {
	posts, dropped := 0, 0
	err := e.store.db.Update(func(tx *bbolt.Tx) error {
		posts, dropped = 0, 0
		for i := range all {
			queued, lost, err := all[i].write(tx, now)
			if err != nil {
				return err
			}
			posts, dropped = posts+queued, dropped+lost
		}
		return nil
	})
	if err != nil {
		return &StateError{Err: err}
	}
	e.deliverer.metrics.dropped.Add(float64(dropped))
	if posts > 0 {
		e.deliverer.poke()
	}
	return nil
}

// write writes what an evaluation found, and queues its posts.
func (v *evaluation) write(tx *bbolt.Tx, now time.Time) (queued, dropped int, err error) {
	w, states := v.watch, bucket(tx, stateBucket)
	var posts []delivery
	own := storedState{Evaluated: v.at}
	for i := range v.changes {
		c := &v.changes[i]
		if c.body != nil {
			posts = append(posts, delivery{Created: now.UnixNano(), Group: c.group.key, Body: c.body})
		}
		if w.only != nil {
			own.groupState = c.kept()
			continue
		}
		key := groupStateKey(w.alert.ID, c.group.key)
		switch {
		case c.group.stored && c.drops(w):
			err = states.Delete(key)
		case c.writes(w):
			err = putJSON(states, key, c.kept())
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if err := putJSON(states, []byte(w.alert.ID), own); err != nil {
		return 0, 0, err
	}
	slices.SortFunc(posts, func(a, b delivery) int { return strings.Compare(a.Group, b.Group) })
	dropped, err = enqueue(tx, w.alert.ID, posts, w.only == nil)
	return len(posts), dropped, err
}

// move makes memory follow an evaluation that was written.
func (e *Evaluator) move(v *evaluation) {
	w := v.watch
	if w.evaluated != v.at {
		e.metrics.evaluations.Inc()
	}
	w.evaluated = v.at
	changed := 0
	for i := range v.changes {
		c := &v.changes[i]
		if c.state.Level != c.group.state.Level {
			if changed++; changed <= maxLogged {
				e.log.Info("alert changed", "alert", w.alert.ID, "name", c.group.name(&w.alert), "level", c.state.Level.Word())
			}
			e.countChange(w, c)
		}
		e.moveGroup(w, c)
		if c.end && w.only == nil {
			e.weight -= w.remove(c.group)
			continue
		}
		if c.group.state.Level != c.group.state.Announced {
			e.left[c.group] = w
		}
		w.forget(c.group, v.at)
	}
	if changed > maxLogged {
		e.log.Info("and more groups of the alert", "alert", w.alert.ID, "more", changed-maxLogged)
	}
}

// countChange counts that a group gets another level.
func (e *Evaluator) countChange(w *watch, c *change) {
	e.metrics.changes.Inc()
	if !c.announced {
		e.metrics.coalesced.Inc()
	}
	if c.group.state.Level == "" {
		w.firing++
	} else if c.state.Level == "" {
		w.firing--
	}
}

// moveGroup gives a group the state that was written.
func (e *Evaluator) moveGroup(w *watch, c *change) {
	g := c.group
	if w.only == nil && c.writes(w) {
		g.stored, g.kept, g.keptMean = true, c.at, c.state.Mean
	} else if c.drops(w) {
		g.stored = false
	}
	g.dirty = false
	e.weight -= len(c.over)
	for _, key := range c.over {
		w.forgetMember(g, key)
	}
	g.state = c.kept()
	delete(e.left, g)
}
