package kapa

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// groupState is what the evaluator keeps of a group in the state file. An alert without `by` is one
// group. Times are nanoseconds since 1970 UTC.
type groupState struct {
	Beyond    bool             `json:"beyond,omitempty"`    // the mean crossed the threshold and did not come back
	Silent    []string         `json:"silent,omitempty"`    // relays that the deadman misses
	Level     Level            `json:"level,omitempty"`     // as it fires, "" is OK
	Since     int64            `json:"since,omitempty"`     // when Level became that
	Announced Level            `json:"announced,omitempty"` // the level that was last posted (or queued for it)
	Began     int64            `json:"began,omitempty"`     // when the announced level left OK
	Mean      *float64         `json:"mean,omitempty"`      // of the last evaluation that had one
	Seen      map[string]int64 `json:"seen,omitempty"`      // with a deadman: the newest reading by relay and collector
	Removed   map[string]bool  `json:"removed,omitempty"`   // those of Seen that their relays removed
	Born      int64            `json:"born,omitempty"`      // its first reading, or when it was last ended
	Last      int64            `json:"last,omitempty"`      // the first reading of its newest slot
	From      string           `json:"from,omitempty"`      // the relay that sent that reading
}

// fires reports whether somebody was notified that the group fires, or will be.
func (s *groupState) fires() bool { return s.Level != "" || s.Announced != "" || s.Beyond }

// keptState is what a restart must not forget of an alert: when it was last evaluated (or made),
// and the states of its groups, by their keys. The one group of an alert without `by` has the key
// "".
type keptState struct {
	evaluated int64 // ns since 1970
	groups    map[string]groupState
}

// storedState is the record of an alert in the bucket "states". The state of the one group of an
// alert without `by` is a part of it. Other groups have a record each.
type storedState struct {
	Evaluated int64 `json:"evaluated"`
	groupState
}

// newState is the state that a new alert begins with.
func newState(a *Alert, now int64) keptState {
	s := keptState{evaluated: now, groups: map[string]groupState{}}
	if len(a.By) == 0 {
		s.groups[""] = groupState{Born: now}
	}
	return s
}

// kept is the state that a watch like this one begins with.
func (w *watch) kept() keptState {
	s := keptState{evaluated: w.evaluated, groups: map[string]groupState{}}
	for key, g := range w.groups {
		if w.only != nil || g.worthKeeping(w) {
			s.groups[key] = g.state
		}
	}
	return s
}

// otherTags forgets what was seen of readings that may not count any more. A group that somebody
// was notified of stays, because somebody has to be notified that it is over.
func (s *keptState) otherTags(a *Alert) {
	for key, g := range s.groups {
		g.Seen, g.Silent, g.Removed, g.Last, g.From = nil, nil, nil, 0, ""
		if s.groups[key] = g; len(a.By) > 0 && !g.fires() {
			delete(s.groups, key)
		}
	}
}

// groupStateKey is the key of a group's record in the bucket "states".
func groupStateKey(id, key string) []byte { return []byte(id + keySeparator + key) }

// write writes the state that an alert begins with, in place of all that there was.
func (s *keptState) write(tx *bbolt.Tx, a *Alert) error {
	b := bucket(tx, stateBucket)
	if err := deleteKeys(b, keysOf(b, a.ID)); err != nil {
		return err
	}
	if len(a.By) == 0 {
		return putJSON(b, []byte(a.ID), storedState{s.evaluated, s.groups[""]})
	}
	if err := putJSON(b, []byte(a.ID), storedState{Evaluated: s.evaluated}); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(s.groups)) {
		if err := putJSON(b, groupStateKey(a.ID, key), s.groups[key]); err != nil {
			return err
		}
	}
	return nil
}

// loadState reads the state of an alert and its groups. An alert that was made when Kapacitor did
// the work begins now.
func (s *store) loadState(a *Alert, now time.Time) (keptState, error) {
	var stored storedState
	kept := keptState{groups: map[string]groupState{}}
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := bucket(tx, stateBucket)
		if data := b.Get([]byte(a.ID)); data != nil {
			if err := unmarshalStored(a.ID, data, &stored); err != nil {
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
	if kept.evaluated = stored.Evaluated; kept.evaluated == 0 {
		kept.evaluated = now.UnixNano()
	}
	old := stored.groupState
	switch {
	case len(a.By) == 0:
		kept.groups[""] = old
	case a.byHost() && (len(old.Seen) > 0 || old.fires()):
		err = s.splitByHost(a, &kept, old, now)
	}
	return kept, err
}

// splitByHost makes groups of the one state over all hosts that a deadman had in a release that
// knew no groups. Its incident is ended under the name that it had, and each silent host is
// announced by itself from then on.
func (s *store) splitByHost(a *Alert, kept *keptState, old groupState, now time.Time) error {
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
		return kept.write(tx, a)
	})
}
