package ingest

import (
	"iter"
	"slices"
	"unique"
)

// collector is one collector of a relay, guarded by its relay's mu. name and tags never change.
type collector struct {
	name  string
	tags  []string
	place int // in collectors.list
	stats statTable
	// soon is when a poll out of the regular interval's phase is due (0: none): the first one, and
	// one that makes up for a regular one that was skipped.
	soon int64
	// firstAt is when the first poll was sent, until a regular one is due (0: none).
	firstAt int64
	// unconfirmed is set while a relay that came back has not added the collector again.
	unconfirmed bool
	// line is the number of the newest got line with a reading of the collector (0: none), slot the
	// collector's place in the event that is being assembled from that line.
	line uint32
	slot int
}

// hasTags reports whether the collector has these tags.
func (c *collector) hasTags(tags iter.Seq[[]byte]) bool {
	i := 0
	for tag := range tags {
		if i == len(c.tags) || c.tags[i] != string(tag) {
			return false
		}
		i++
	}
	return i == len(c.tags)
}

// collectors are the collectors of a relay, guarded by its mu.
type collectors struct {
	list   []*collector          // as they were added
	byName map[string]*collector // only when there were more than linear
	cursor int                   // the place after the collector that was found last
	series int                   // stats of all collectors
}

// find returns the collector of that name, nil if there is none. Relays answer in the order in
// which they are asked, so it is nearly always the one after the last.
func (cs *collectors) find(name []byte) *collector {
	i := cs.cursor
	if i >= len(cs.list) || cs.list[i].name != string(name) {
		if i = cs.index(name); i < 0 {
			return nil
		}
	}
	cs.cursor = i + 1
	return cs.list[i]
}

// index returns the place of the collector of that name, -1 if there is none.
func (cs *collectors) index(name []byte) int {
	if cs.byName == nil {
		return slices.IndexFunc(cs.list, func(c *collector) bool { return c.name == string(name) })
	}
	if c := cs.byName[string(name)]; c != nil {
		return c.place
	}
	return -1
}

// put adds a collector, or replaces the one of that name.
func (cs *collectors) put(c *collector) {
	if c.place = cs.index([]byte(c.name)); c.place >= 0 {
		cs.series -= len(cs.list[c.place].stats.entries)
		cs.list[c.place] = c
	} else {
		c.place = len(cs.list)
		cs.list = append(cs.list, c)
	}
	switch {
	case cs.byName != nil:
		cs.byName[c.name] = c
	case len(cs.list) > linear:
		cs.byName = make(map[string]*collector, 2*len(cs.list))
		for _, c := range cs.list {
			cs.byName[c.name] = c
		}
	}
}

// drop removes a collector.
func (cs *collectors) drop(c *collector) {
	cs.series -= len(c.stats.entries)
	delete(cs.byName, c.name)
	cs.list = slices.Delete(cs.list, c.place, c.place+1)
	for _, next := range cs.list[c.place:] {
		next.place--
	}
}

// linear is how many collectors of a relay, or stats of a collector, are looked up without a map.
const linear = 12

// statTable is the stats that a collector has answered: interned, and found without allocating.
// Relays answer in the same order every time, so that the next one is nearly always the one after
// the last.
type statTable struct {
	entries []statEntry
	index   map[string]int // only when there are more than linear
	cursor  int
}

// statEntry keeps the handle and not the string: all relays of a process share one copy of a name.
type statEntry struct {
	name unique.Handle[string]
	line uint32 // the got line in which it was last seen
}

// find returns the place of name in entries, -1 if it is new.
func (t *statTable) find(name []byte) int {
	if c := t.cursor; c < len(t.entries) && t.entries[c].name.Value() == string(name) {
		t.cursor = c + 1
		return c
	}
	i := -1
	if at, ok := t.index[string(name)]; ok {
		i = at
	} else if t.index == nil {
		i = slices.IndexFunc(t.entries, func(e statEntry) bool { return e.name.Value() == string(name) })
	}
	if i >= 0 {
		t.cursor = i + 1
	}
	return i
}

// add adds a new name and returns its place.
func (t *statTable) add(name []byte) int {
	i := len(t.entries)
	t.entries = append(t.entries, statEntry{name: unique.Make(string(name))})
	switch {
	case t.index != nil:
		t.index[t.entries[i].name.Value()] = i
	case len(t.entries) > linear:
		t.index = make(map[string]int, 2*len(t.entries))
		for i, e := range t.entries {
			t.index[e.name.Value()] = i
		}
	}
	t.cursor = i + 1
	return i
}
