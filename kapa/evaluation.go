package kapa

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/floor"
)

// change is a group's next state, before it is written.
type change struct {
	group     *group
	state     groupState
	at        int64
	over      []string // collectors that the deadman need not remember any more
	end       bool     // the group is not remembered any more
	announced bool
	body      []byte // to post, or nil
}

// evaluation is what one moment makes of an alert.
type evaluation struct {
	watch   *watch
	at      int64 // the moment; that of the evaluation before if this is none
	changes []change
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
		var all []evaluation
		for _, w := range e.index.ordered {
			if at, ok := w.next(until); ok && at == first {
				all = append(all, e.judge(w, at, now))
			}
		}
		if err := e.commit(all, now); err != nil {
			return err
		}
	}
	e.due = int64(1<<63 - 1)
	for _, w := range e.watches {
		every := int64(w.alert.Every)
		e.due = min(e.due, floor.To(w.evaluated, every)+every)
	}
	return nil
}

// judge finds the states of an alert's groups at a moment and changes nothing.
func (e *Evaluator) judge(w *watch, at int64, now time.Time) evaluation {
	found := evaluation{watch: w, at: at, changes: make([]change, 0, len(w.groups))}
	for _, g := range w.groups {
		found.changes = append(found.changes, e.judgeGroup(w, g, at, now))
	}
	return found
}

func (e *Evaluator) judgeGroup(w *watch, g *group, at int64, now time.Time) change {
	c := change{group: g, state: g.state, at: at}
	s := &c.state
	mean, has := w.mean(g, at)
	if has {
		s.Mean = &mean
		if s.Beyond {
			s.Beyond = !w.alert.over(mean)
		} else {
			s.Beyond = w.alert.Operator.Compare(mean, float64(w.alert.Threshold))
		}
	}
	isNews := now.UnixNano()-at <= int64(max(news, newsEvery*time.Duration(w.alert.Every))+grace)
	if s.Seen != nil && !e.live.IsZero() && isNews {
		s.Silent, c.over = s.silent(w.alert.Deadman, at, e.live.UnixNano())
	}
	level := Level("")
	if s.Beyond || len(s.Silent) > 0 {
		level = w.alert.Level
	}
	if level != s.Level {
		s.Level, s.Since = level, at
	}
	const over = "nothing came for 7 days" // forgetAfter
	switch {
	case w.only == nil && len(g.window.slots) == 0 && (!g.worthKeeping(w) && !s.fires() || at-cmp.Or(s.Last, g.state.Since) > int64(forgetAfter)):
		c.finish(w, over)
	case !isNews || s.Level == s.Announced:
	case !has && s.Level == "" && len(c.over) > 0:
		c.post(w, "none, "+over)
	default:
		c.announce(w)
	}
	return c
}

// announceLeft posts, once up to date, what was found when it was no news any more.
func (e *Evaluator) announceLeft(now time.Time) error {
	if len(e.left) == 0 {
		return nil
	}
	var all []evaluation
	for _, w := range e.index.ordered {
		left := evaluation{watch: w, at: w.evaluated}
		for g, of := range e.left {
			if of == w {
				c := change{group: g, state: g.state, at: g.state.Since}
				c.announce(w)
				left.changes = append(left.changes, c)
			}
		}
		if len(left.changes) > 0 {
			all = append(all, left)
		}
	}
	return e.commit(all, now)
}

// commit writes states and posts in one transaction; memory moves after it.
func (e *Evaluator) commit(all []evaluation, now time.Time) error {
	if len(all) == 0 {
		return nil
	}
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
	if dropped > 0 {
		e.deliverer.metrics.dropped.Add(float64(dropped))
	}
	if posts > 0 {
		e.deliverer.poke()
	}
	return nil
}

// write writes what an evaluation found, and queues its posts.
func (v *evaluation) write(tx *bbolt.Tx, now time.Time) (queued, dropped int, err error) {
	w, states := v.watch, bucket(tx, stateBucket)
	var posts []delivery
	begin := state{Evaluated: v.at}
	for i := range v.changes {
		c := &v.changes[i]
		if c.body != nil {
			posts = append(posts, delivery{Created: now.UnixNano(), Group: c.group.key, Body: c.body})
		}
		if w.only != nil {
			begin.groupState = c.kept()
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
	if err := putJSON(states, []byte(w.alert.ID), begin); err != nil {
		return 0, 0, err
	}
	slices.SortFunc(posts, func(a, b delivery) int { return strings.Compare(a.Group, b.Group) })
	dropped, err = enqueue(tx, w.alert.ID, posts, w.only == nil)
	return len(posts), dropped, err
}

// drops reports whether the state file need not have the group any more.
func (c *change) drops(w *watch) bool {
	return c.end || w.alert.Deadman == 0 && !c.state.fires()
}

// writes reports whether the state file must have the group as it is now. What a group without news was last seen to send
// is written now and then only: after a restart silence begins anew, so that all it is for is to forget the group some day.
func (c *change) writes(w *watch) bool {
	if c.drops(w) {
		return false
	}
	g, is, was := c.group, &c.state, &c.group.state
	return !g.stored || g.dirty || len(c.over) > 0 || c.announced ||
		is.Beyond != was.Beyond || is.Level != was.Level || len(is.Silent) != len(was.Silent) ||
		is.Mean != nil && len(g.window.slots) == 0 && (g.keptMean == nil || *g.keptMean != *is.Mean) ||
		is.Last > g.kept && c.at-g.kept >= int64(refreshEvery)
}

// kept is the state without what is over.
func (c *change) kept() groupState {
	s := c.state
	if len(c.over) == 0 {
		return s
	}
	s.Seen, s.Removed = without(s.Seen, c.over), without(s.Removed, c.over)
	return s
}

func without[V any](all map[string]V, keys []string) map[string]V {
	if all == nil {
		return nil
	}
	left := make(map[string]V, len(all))
	for key, value := range all {
		left[key] = value
	}
	for _, key := range keys {
		delete(left, key)
	}
	return left
}

// maxLogged is how many groups of one alert that change at once have a line in the log each.
const maxLogged = 10

// move follows an evaluation that was written.
func (e *Evaluator) move(v *evaluation) {
	w := v.watch
	if w.evaluated != v.at {
		e.metrics.evaluations.Inc()
	}
	w.evaluated = v.at
	changed := 0
	for i := range v.changes {
		c := &v.changes[i]
		g, was := c.group, c.group.state.Level
		if c.state.Level != was {
			e.metrics.changes.Inc()
			if changed++; changed <= maxLogged {
				e.log.Info("alert changed", "alert", w.alert.ID, "name", g.name(&w.alert), "level", c.state.Level.Word())
			}
			if !c.announced {
				e.metrics.coalesced.Inc()
			}
			if was == "" {
				w.firing++
			} else if c.state.Level == "" {
				w.firing--
			}
		}
		if w.only == nil && c.writes(w) {
			g.stored, g.kept, g.keptMean = true, c.at, c.state.Mean
		} else if c.drops(w) {
			g.stored = false
		}
		g.dirty = false
		e.weight -= len(c.over)
		for _, key := range c.over {
			if w.members[key] == g {
				delete(w.members, key)
			}
		}
		g.state = c.kept()
		delete(e.left, g)
		if c.end && w.only == nil {
			e.weight -= w.remove(g)
			continue
		}
		if g.state.Level != g.state.Announced {
			e.left[g] = w
		}
		w.forget(g, v.at)
	}
	if changed > maxLogged {
		e.log.Info("and more groups of the alert", "alert", w.alert.ID, "more", changed-maxLogged)
	}
}
