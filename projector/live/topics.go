package live

import (
	"slices"

	"github.com/nanopack/pulse/journal/codec"
)

// maxTopics is how many series are remembered before everything is forgotten and begun anew: the bound for
// relays whose names never repeat. Some 180 bytes each.
const maxTopics = 1 << 19

// topics remembers the encoded beginning of every series' line. A relay answers a poll much as it answered the
// last one, so a reading mostly costs one comparison of interned strings at the place where its series was
// last time. (lookup, which the other projections share, knows no bare words, and these are topics.)
//
// It belongs to one goroutine.
type topics struct {
	relays map[string]*relayTopics
	count  int    // series, roughly
	max    int    // of them
	pass   uint32 // counts sweeps
}

type relayTopics struct {
	places []*collectorTopics // by place in the event
	byName map[string]*collectorTopics
	used   uint32
}

type collectorTopics struct {
	name  string
	tags  []string
	stats []topic          // in the order of their first reading
	index map[string]int32 // stats by id, once there are more than a few
	used  uint32
}

type topic struct {
	stat, prefix string
	used         uint32
}

func newTopics() *topics {
	return &topics{relays: make(map[string]*relayTopics), max: maxTopics, pass: 1}
}

// appendMessages appends the readings of the event to dst, in their order.
func (t *topics) appendMessages(dst []message, e *codec.Event) []message {
	r := t.relays[e.Relay]
	if r == nil {
		r = &relayTopics{byName: make(map[string]*collectorTopics)}
		t.relays[e.Relay] = r
	}
	r.used = t.pass
	for i := range e.Collectors {
		sent := &e.Collectors[i]
		c := r.collector(i, sent)
		c.used = t.pass
		for k := range sent.Stats {
			s := &sent.Stats[k]
			if k >= len(c.stats) || c.stats[k].stat != s.ID {
				at, ok := c.find(s.ID)
				if !ok {
					at = t.add(e.Relay, c, sent, s.ID)
				}
				c.stats[at].used = t.pass
				dst = append(dst, message{c.stats[at].prefix, s.Value, e.Time})
				continue
			}
			c.stats[k].used = t.pass
			dst = append(dst, message{c.stats[k].prefix, s.Value, e.Time})
		}
	}
	return dst
}

// collector finds a collector, at its place or by its name.
func (r *relayTopics) collector(place int, sent *codec.Collector) *collectorTopics {
	if place < len(r.places) {
		if c := r.places[place]; c.name == sent.Name && slices.Equal(c.tags, sent.Tags) {
			return c
		}
	}
	c := r.byName[sent.Name]
	if c == nil || !slices.Equal(c.tags, sent.Tags) {
		c = &collectorTopics{name: sent.Name, tags: slices.Clone(sent.Tags), stats: make([]topic, 0, len(sent.Stats))}
		r.byName[sent.Name] = c
	}
	if place < len(r.places) {
		r.places[place] = c
	} else if place == len(r.places) {
		r.places = append(r.places, c)
	}
	return c
}

// find finds a stat that is not at its place.
func (c *collectorTopics) find(stat string) (int, bool) {
	const few = 32 // comparing so many costs less than the memory of a map
	if len(c.stats) <= few {
		at := slices.IndexFunc(c.stats, func(t topic) bool { return t.stat == stat })
		return at, at >= 0
	}
	if c.index == nil {
		c.index = make(map[string]int32, len(c.stats))
		for i := range c.stats {
			c.index[c.stats[i].stat] = int32(i)
		}
	}
	at, ok := c.index[stat]
	return int(at), ok
}

func (t *topics) add(relay string, c *collectorTopics, sent *codec.Collector, stat string) int {
	if t.count >= t.max {
		clear(t.relays) // whoever is in use is found again, or made again
		t.count = 0
	}
	t.count++
	c.stats = append(c.stats, topic{stat: stat, prefix: linePrefix(mistTags(relay, sent, stat))})
	at := len(c.stats) - 1
	if c.index != nil {
		c.index[stat] = int32(at)
	}
	return at
}

// sweep forgets what was not used since the last sweep.
func (t *topics) sweep() {
	t.count = 0
	for id, r := range t.relays {
		if r.used != t.pass {
			delete(t.relays, id)
			continue
		}
		for name, c := range r.byName {
			if c.used != t.pass {
				delete(r.byName, name)
				continue
			}
			before := len(c.stats)
			c.stats = slices.DeleteFunc(c.stats, func(s topic) bool { return s.used != t.pass })
			if len(c.stats) != before {
				c.stats, c.index = slices.Clip(c.stats), nil
			}
			t.count += len(c.stats)
		}
		r.places = slices.DeleteFunc(r.places, func(c *collectorTopics) bool { return r.byName[c.name] != c })
	}
	t.pass++
}
