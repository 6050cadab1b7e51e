package kapa

import (
	"cmp"
	"context"
	"math"
	"time"
)

const (
	// grace is how long after a moment the moment is evaluated: readings that arrived before it are
	// in the journal by then.
	grace = time.Second
	// news is how old a change may be when it is found, to be posted all the same: a restart is no
	// outage. Where evaluations are rare, it is newsEvery of them.
	news      = time.Minute
	newsEvery = 2
	// near is how far the newest record that was applied may be from now for the evaluator to count
	// as up to date.
	near = 5 * time.Second
)

// evaluation is what one moment makes of an alert.
type evaluation struct {
	watch   *watch
	at      int64 // the moment; that of the evaluation before if this is none
	changes []change
}

// Tick evaluates what is due by the clock, once everything that the journal holds was applied: only
// then is what is missing known to be missing.
func (e *Evaluator) Tick(ctx context.Context, now time.Time) (uint64, error) {
	s, err := e.journal.State(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		return e.position(), err
	}
	until := now
	if e.applied < s.LastSeq {
		// On a busy server there is always a record that was not applied yet.
		until = time.Unix(0, min(e.marks.newest, now.UnixNano()))
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

// evaluate evaluates what is due until then, moment by moment.
func (e *Evaluator) evaluate(until int64, now time.Time) error {
	for {
		first := int64(math.MaxInt64)
		for _, w := range e.watches {
			if at, ok := w.next(until); ok {
				first = min(first, at)
			}
		}
		if first == math.MaxInt64 {
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
	e.due = math.MaxInt64
	for _, w := range e.watches {
		e.due = min(e.due, w.due())
	}
	return nil
}

// judge finds the states of an alert's groups at a moment. It changes nothing.
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
	forgotten := at-cmp.Or(s.Last, g.state.Since) > int64(forgetAfter)
	switch {
	case w.only == nil && len(g.window.slots) == 0 && (!g.worthKeeping(w) && !s.fires() || forgotten):
		c.finish(w, over)
	case !isNews || s.Level == s.Announced:
	case !has && s.Level == "" && len(c.over) > 0:
		c.post(w, "none, "+over)
	default:
		c.announce(w)
	}
	return c
}

// announceLeft posts, once the evaluator is up to date, the changes that were old when found.
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
