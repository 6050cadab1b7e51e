package ingest

import (
	"iter"
	"slices"
	"unique"
)

// collector is one collector of a relay, guarded by its relay's mu. name and tags never change. A
// big fleet has a hundred thousand collectors, nearly all of one stat: the struct fills 64 bytes,
// and all relays of a process share one copy of a name.
type collector struct {
	name unique.Handle[string]
	tags *[]string // shared by collectors of the relay; never nil
	// only is the stat of a collector that has answered a single one, stats are all stats of a
	// collector that has answered several. line is the number of the newest got line with only.
	only  unique.Handle[string]
	stats *statTable
	// soon is when a poll out of the regular interval's phase is due (0: none): the first one, and
	// one that makes up for a regular one that was skipped.
	soon int64
	// firstAt is when the first poll was sent, until a regular one is due (0: none).
	firstAt int64
	// line is the number of the newest got line with a reading of the collector (0: none), slot the
	// collector's place in the event that is being assembled from that line.
	line, slot uint32
	place      uint32 // in collectors.list
	// unconfirmed is set while a relay that came back has not added the collector again.
	unconfirmed bool
}

// hasTags reports whether the collector has these tags.
func (c *collector) hasTags(tags iter.Seq[[]byte]) bool {
	i := 0
	for tag := range tags {
		if i == len(*c.tags) || (*c.tags)[i] != string(tag) {
			return false
		}
		i++
	}
	return i == len(*c.tags)
}

// series returns how many stats the collector has answered.
func (c *collector) series() int {
	switch {
	case c.stats != nil:
		return len(c.stats.entries)
	case c.only != unique.Handle[string]{}:
		return 1
	}
	return 0
}

// stat returns the interned name of a stat and the number of the newest got line with it. Both are
// valid until the next addStat; the number is nil if the stat is new.
func (c *collector) stat(name []byte) (interned string, line *uint32) {
	if c.stats != nil {
		if i := c.stats.find(name); i >= 0 {
			e := &c.stats.entries[i]
			return e.name.Value(), &e.line
		}
	} else if c.only != (unique.Handle[string]{}) && c.only.Value() == string(name) {
		return c.only.Value(), &c.line
	}
	return "", nil
}

// addStat adds a new stat and returns what stat returns.
func (c *collector) addStat(name []byte) (interned string, line *uint32) {
	added := unique.Make(string(name))
	if c.series() == 0 {
		c.only = added
		return added.Value(), &c.line
	}
	if c.stats == nil {
		c.stats = &statTable{entries: []statEntry{{name: c.only, line: c.line}}}
	}
	return added.Value(), &c.stats.add(added).line
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
	if i >= len(cs.list) || cs.list[i].name.Value() != string(name) {
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
		return slices.IndexFunc(cs.list, func(c *collector) bool { return c.name.Value() == string(name) })
	}
	if c := cs.byName[string(name)]; c != nil {
		return int(c.place)
	}
	return -1
}

// add adds a collector, or replaces the one of that name. Nobody may change tags any more.
func (cs *collectors) add(name string, tags []string) *collector {
	c := &collector{name: unique.Make(name)}
	if n := len(cs.list); n > 0 && slices.Equal(*cs.list[n-1].tags, tags) {
		c.tags = cs.list[n-1].tags // nearly always all collectors of a relay have the same
	} else {
		own := tags
		c.tags = &own
	}
	if i := cs.index([]byte(name)); i >= 0 {
		cs.series -= cs.list[i].series()
		c.place, cs.list[i] = uint32(i), c
	} else {
		c.place = uint32(len(cs.list))
		cs.list = append(cs.list, c)
	}
	switch {
	case cs.byName != nil:
		cs.byName[c.name.Value()] = c
	case len(cs.list) > linear:
		cs.byName = make(map[string]*collector, 2*len(cs.list))
		for _, c := range cs.list {
			cs.byName[c.name.Value()] = c
		}
	}
	return c
}

// drop removes a collector.
func (cs *collectors) drop(c *collector) {
	cs.series -= c.series()
	delete(cs.byName, c.name.Value())
	cs.list = slices.Delete(cs.list, int(c.place), int(c.place)+1)
	for _, next := range cs.list[c.place:] {
		next.place--
	}
}

// linear is how many collectors of a relay, or stats of a collector, are looked up without a map.
const linear = 12

// statTable is the stats of a collector that has answered several: interned, and found without allocating.
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

// add adds a new name and returns its entry.
func (t *statTable) add(name unique.Handle[string]) *statEntry {
	i := len(t.entries)
	t.entries = append(t.entries, statEntry{name: name})
	switch {
	case t.index != nil:
		t.index[name.Value()] = i
	case len(t.entries) > linear:
		t.index = make(map[string]int, 2*len(t.entries))
		for i, e := range t.entries {
			t.index[e.name.Value()] = i
		}
	}
	t.cursor = i + 1
	return &t.entries[i]
}
