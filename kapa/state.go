package kapa

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// state is what the evaluator keeps of an alert in the state file.
type state struct {
	Evaluated  int64 `json:"evaluated"` // the last moment that was evaluated, or at which the alert was made; ns since 1970
	groupState       // of an alert without by
}

// keptState is the state of an alert and of those of its groups that are kept.
type keptState struct {
	state
	groups map[string]groupState
}

// kept is what a watch like this one begins with.
func (w *watch) kept() keptState {
	s := keptState{state: state{Evaluated: w.evaluated}, groups: map[string]groupState{}}
	if w.only != nil {
		s.groupState = w.only.state
		return s
	}
	for key, g := range w.groups {
		if g.worthKeeping(w) {
			s.groups[key] = g.state
		}
	}
	return s
}

// otherTags forgets what was seen of readings that may not count any more. Who was told of a group has still to be told
// that it is over.
func (s *keptState) otherTags() {
	forget := func(g *groupState) { g.Seen, g.Silent, g.Removed, g.Last, g.From = nil, nil, nil, 0, "" }
	forget(&s.groupState)
	groups := map[string]groupState{}
	for key, g := range s.groups {
		if forget(&g); g.fires() {
			groups[key] = g
		}
	}
	s.groups = groups
}

// takeWindows takes over the readings of the watch before, which counted the same.
func (w *watch) takeWindows(old *watch) {
	for key, was := range old.groups {
		g := w.groups[key]
		if g == nil {
			g = w.add(key, was.state)
		}
		if g.window = was.window; len(g.window.slots) > 0 {
			w.filled++
		}
	}
}

// groupStateKey is where the state file has the state of a group.
func groupStateKey(id, key string) []byte { return []byte(id + keySeparator + key) }

// write writes the state that an alert begins with, in place of all that there was.
func (s *keptState) write(tx *bbolt.Tx, id string) error {
	b := bucket(tx, stateBucket)
	if err := deleteKeys(b, keysOf(b, id)); err != nil {
		return err
	}
	if err := putJSON(b, []byte(id), s.state); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(s.groups)) {
		if err := putJSON(b, groupStateKey(id, key), s.groups[key]); err != nil {
			return err
		}
	}
	return nil
}

// loadState reads the state of an alert and its groups. An alert that was made when Kapacitor did the work begins now. A
// deadman of a release that knew no groups had one state over all hosts: its incident is ended under the name that it had,
// and who is silent is told host by host from now on.
func (s *Store) loadState(a *Alert, now time.Time) (kept keptState, err error) {
	kept.groups = map[string]groupState{}
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := bucket(tx, stateBucket)
		if data := b.Get([]byte(a.ID)); data != nil {
			if err := unmarshalStored(a.ID, data, &kept.state); err != nil {
				return err
			}
		}
		prefix := groupStateKey(a.ID, "")
		c := b.Cursor()
		for key, data := c.Seek(prefix); bytes.HasPrefix(key, prefix) && len(a.By) > 0; key, data = c.Next() {
			var g groupState
			if err := unmarshalStored(a.ID, data, &g); err != nil {
				return err
			}
			kept.groups[string(key[len(prefix):])] = g
		}
		return nil
	})
	if err != nil {
		return kept, err
	}
	if kept.Evaluated == 0 {
		kept.Evaluated = now.UnixNano()
	}
	if old := kept.groupState; byHost(a) && (len(old.Seen) > 0 || old.fires()) {
		kept.groupState = groupState{}
		err = s.splitByHost(a, &kept, old, now)
	}
	return kept, err
}

// splitByHost makes groups of the one state that a deadman had.
func (s *Store) splitByHost(a *Alert, kept *keptState, old groupState, now time.Time) error {
	for member, last := range old.Seen {
		host := relayOf(member)
		g, known := kept.groups[host]
		if !known {
			g = groupState{Seen: map[string]int64{}, From: host}
			if slices.Contains(old.Silent, host) {
				g.Silent = []string{host}
			}
		}
		g.Seen[member], g.Last = last, max(g.Last, last)
		kept.groups[host] = g
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		if old.Announced != "" {
			alone := *a
			alone.By = nil
			w := &watch{alert: alone}
			c := change{group: &group{state: old}, state: old, at: now.UnixNano()}
			c.finish(w, "each host is told by itself from now on")
			if _, err := enqueue(tx, a.ID, []delivery{{Created: now.UnixNano(), Body: c.body}}, true); err != nil {
				return err
			}
		}
		return kept.write(tx, a.ID)
	})
}
