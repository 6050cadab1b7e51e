// Package lookup finds the data that a projection keeps for the series of each reading, without an
// allocation and mostly without hashing. Small relays have lists and no maps: a map of one entry
// takes more memory than the series in it.
//
// A relay answers a poll much as it answered the last one: the same collectors and the same stats
// in the same order. So a relay remembers its collectors in the order of their answers, and of each
// the series in the order of its stats, and a reading costs one comparison of (interned) strings.
// When another series is at a place, the relay finds it by its names and remembers it. A series is a
// stat id and the tags of [Tags]; two collectors of a relay with the same tags share their series.
//
// A [Cache] belongs to one goroutine. It grows with every new series. Its owner limits its size
// with [Cache.Sweep], [Cache.Drop] or [Relay.Keep]. These only forget series: when a forgotten
// series comes again, it is made again.
package lookup

import (
	"slices"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// Series is one stat under one set of tags.
type Series[R, S any] struct {
	// Data belongs to the owner of the Cache. It is the first field, where it takes no memory when
	// it has no size.
	Data S
	// Stat is the id of the stat, and Set has the tags.
	Stat string
	Set  *Set[R, S]
	// Index numbers the series of a relay: 0 to Relay.Len()-1, as long as no series was forgotten.
	Index int32
	nth   int32  // how many readings the series had in its last event before the current one
	pass  uint64 // the event in which the series was last seen
}

// Set is one set of tags of a relay, with its series.
type Set[R, S any] struct {
	Relay  *Relay[R, S]
	Tags   []Tag
	Series []*Series[R, S]
	// Index numbers the sets of a relay, as Series.Index numbers the series.
	Index  int
	byStat map[string]*Series[R, S] // nil while there are few series
}

// Relay holds the series of one relay.
type Relay[R, S any] struct {
	// Key names the relay. Sets are its sets of tags, in the order of their first readings.
	Key  codec.RelayKey
	Sets []*Set[R, S]
	// Data belongs to the owner of the Cache.
	Data R

	cache  *Cache[R, S]
	byTags map[string]*Set[R, S] // nil while there are few sets
	// collectors are in the order in which they first answered, each name once. places has their
	// runs, and what runs that grew left behind.
	collectors []collector[R, S]
	places     []*Series[R, S]
	stale      int            // entries of places that belong to no run
	byName     map[string]int // the index in collectors; nil while there are few
	tags       func(relay codec.RelayKey, sent []string) []Tag
	series     int
	next       int32 // the Index of the next series
	used       uint64
}

// few is how many entries a list has at most before a map takes its place.
const few = 16

// collector remembers which series the stats of one collector belong to.
type collector[R, S any] struct {
	name       string
	tags       *sentTags[R, S]
	first, run int32 // Relay.places[first : first+run]
}

// sentTags are the tags that collectors of a relay sent, and what they mean.
type sentTags[R, S any] struct {
	sent []string
	set  *Set[R, S]
}

// Reading is one reading of an event, with its series.
type Reading[R, S any] struct {
	Series *Series[R, S]
	Value  float64
	// Nth counts the readings of the same series before this one in the same event.
	Nth int64
}

// sweepEvery is how often Expire sweeps. If a series is forgotten too early, it is only made again.
const sweepEvery = 5 * time.Minute

// Cache holds the relays. The zero value is ready to use.
type Cache[R, S any] struct {
	// Tags makes the tags of a series from the relay and the tags that the collector sent. nil
	// means [Tags]. It must be set before the first use of the Cache.
	Tags func(relay codec.RelayKey, sent []string) []Tag

	relays map[codec.RelayKey]*Relay[R, S]
	pass   uint64 // the number of events so far; serves as the cache's clock
	mark   uint64 // the pass of the last Sweep
	series int

	nextSweep time.Time // when Expire sweeps next
}

// Relay returns the relay with the name. It makes the relay if there is none.
func (c *Cache[R, S]) Relay(key codec.RelayKey) *Relay[R, S] {
	r := c.relays[key]
	if r == nil {
		r = &Relay[R, S]{Key: key, cache: c, tags: c.Tags}
		if r.tags == nil {
			r.tags = Tags
		}
		if c.relays == nil {
			c.relays = make(map[codec.RelayKey]*Relay[R, S])
		}
		c.relays[key] = r
	}
	return r
}

// Find returns the relay with the name, nil if there is none.
func (c *Cache[R, S]) Find(key codec.RelayKey) *Relay[R, S] { return c.relays[key] }

// Len returns the number of series.
func (c *Cache[R, S]) Len() int { return c.series }

// Drop forgets a relay. An owner that still holds the relay may go on using it.
func (c *Cache[R, S]) Drop(r *Relay[R, S]) {
	if c.relays[r.Key] == r {
		delete(c.relays, r.Key)
		c.series -= r.series
	}
	r.cache = nil
}

// Sweep forgets the relays and series that were not seen since the last Sweep.
func (c *Cache[R, S]) Sweep() {
	for _, r := range c.relays {
		if r.used <= c.mark {
			c.Drop(r)
			continue
		}
		r.Keep(func(s *Series[R, S]) bool { return s.pass > c.mark })
	}
	c.mark = c.pass
}

// Expire calls Sweep when five minutes have passed on the clock of now. That clock may be set back.
func (c *Cache[R, S]) Expire(now time.Time) {
	wait := c.nextSweep.Sub(now)
	if wait > 0 && wait <= sweepEvery {
		return
	}
	if !c.nextSweep.IsZero() {
		c.Sweep()
	}
	c.nextSweep = now.Add(sweepEvery)
}

// Len returns the number of series of the relay.
func (r *Relay[R, S]) Len() int { return r.series }

// Collector visits once each series that the latest readings of a collector belong to.
func (r *Relay[R, S]) Collector(name string, visit func(*Series[R, S])) {
	at := r.find(name)
	if at < 0 {
		return
	}
	col := &r.collectors[at]
	run := r.places[col.first : col.first+col.run]
	for i, s := range run {
		if !slices.Contains(run[:i], s) {
			visit(s)
		}
	}
}

// Keep forgets the series for which keep returns false.
func (r *Relay[R, S]) Keep(keep func(*Series[R, S]) bool) {
	before := r.series
	r.series = 0
	for _, set := range r.Sets {
		set.Series = slices.DeleteFunc(set.Series, func(s *Series[R, S]) bool { return !keep(s) })
		set.index()
		r.series += len(set.Series)
	}
	if r.series == before {
		return
	}
	if r.cache != nil {
		r.cache.series -= before - r.series
	}
	r.Sets = slices.DeleteFunc(r.Sets, func(set *Set[R, S]) bool { return len(set.Series) == 0 })
	r.byTags = nil
	if len(r.Sets) > few {
		r.indexSets()
	}
	r.forgetPlaces()
}

// Resolve appends the readings of the event to dst, in their order, each with its series.
func (r *Relay[R, S]) Resolve(e *codec.Event, dst []Reading[R, S]) []Reading[R, S] {
	pass := r.used + 1
	if r.cache != nil {
		r.cache.pass++
		pass = r.cache.pass
	}
	r.used = pass
	if r.collectors == nil {
		r.collectors = make([]collector[R, S], 0, len(e.Collectors))
		r.places = make([]*Series[R, S], 0, e.Readings())
	}
	at := -1
	for i := range e.Collectors {
		sent := &e.Collectors[i]
		// It is nearly always the one after the last.
		at++
		if at >= len(r.collectors) || r.collectors[at].name != sent.Name || !slices.Equal(r.collectors[at].tags.sent, sent.Tags) {
			at = r.findCollector(sent)
		}
		col := &r.collectors[at]
		run := r.places[col.first : col.first+col.run]
		for k := range sent.Stats {
			stat := &sent.Stats[k]
			var s *Series[R, S]
			if k < len(run) && run[k].Stat == stat.ID {
				s = run[k]
			} else {
				s = r.seriesOf(col.tags.set, stat.ID)
				run = r.place(col, k, s)
			}
			if s.pass == pass {
				s.nth++
			} else {
				s.pass, s.nth = pass, 0
			}
			dst = append(dst, Reading[R, S]{s, stat.Value, int64(s.nth)})
		}
	}
	return dst
}

// findCollector returns the index of a collector that was not at its place, and makes it if there is
// none.
func (r *Relay[R, S]) findCollector(sent *codec.Collector) int {
	if len(r.collectors) > 4*r.series+1024 { // the names of collectors never repeat
		r.forgetPlaces()
	}
	at := r.find(sent.Name)
	if at >= 0 && slices.Equal(r.collectors[at].tags.sent, sent.Tags) {
		return at
	}
	col := collector[R, S]{name: sent.Name}
	// A relay's collectors often have the same tags, and share them then.
	if n := len(r.collectors); n > 0 && slices.Equal(r.collectors[n-1].tags.sent, sent.Tags) {
		col.tags = r.collectors[n-1].tags
	} else {
		col.tags = &sentTags[R, S]{slices.Clone(sent.Tags), r.set(r.tags(r.Key, sent.Tags))}
	}
	if at >= 0 {
		r.stale += int(r.collectors[at].run)
		r.collectors[at] = col
		return at
	}
	at = len(r.collectors)
	col.first = int32(len(r.places))
	r.collectors = append(r.collectors, col)
	if r.byName != nil {
		r.byName[col.name] = at
	} else if at >= few {
		r.byName = make(map[string]int, len(r.collectors))
		for i := range r.collectors {
			r.byName[r.collectors[i].name] = i
		}
	}
	return at
}

// find returns the index of the known collector of a name, -1 if there is none.
func (r *Relay[R, S]) find(name string) int {
	if r.byName != nil {
		if i, ok := r.byName[name]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(r.collectors, func(col collector[R, S]) bool { return col.name == name })
}

// place remembers that a series was at a place of a collector, and returns the collector's run.
func (r *Relay[R, S]) place(col *collector[R, S], k int, s *Series[R, S]) []*Series[R, S] {
	if k >= int(col.run) {
		if int(col.first+col.run) != len(r.places) { // others follow: the run goes on at the end
			r.stale += int(col.run)
			r.dropStale()
			run := r.places[col.first : col.first+col.run]
			col.first = int32(len(r.places))
			r.places = append(r.places, run...)
		}
		r.places = append(r.places, s)
		col.run++
	}
	run := r.places[col.first : col.first+col.run]
	run[k] = s
	return run
}

// dropStale makes places anew when most of it is stale.
func (r *Relay[R, S]) dropStale() {
	if r.stale <= len(r.places)/2+few {
		return
	}
	r.stale = 0
	places := make([]*Series[R, S], 0, len(r.places))
	for i := range r.collectors {
		col := &r.collectors[i]
		run := r.places[col.first : col.first+col.run]
		col.first = int32(len(places))
		places = append(places, run...)
	}
	r.places = places
}

func (r *Relay[R, S]) forgetPlaces() {
	r.collectors, r.places, r.byName, r.stale = nil, nil, nil, 0
}

// set finds or makes a set of tags.
func (r *Relay[R, S]) set(tags []Tag) *Set[R, S] {
	var buf [256]byte
	if r.byTags != nil {
		if set := r.byTags[string(appendKey(buf[:0], tags))]; set != nil {
			return set
		}
	} else if i := slices.IndexFunc(r.Sets, func(set *Set[R, S]) bool { return slices.Equal(set.Tags, tags) }); i >= 0 {
		return r.Sets[i]
	}
	set := &Set[R, S]{Relay: r, Tags: tags, Index: len(r.Sets)}
	r.Sets = append(r.Sets, set)
	if r.byTags != nil {
		r.byTags[string(appendKey(buf[:0], tags))] = set
	} else if len(r.Sets) > few {
		r.indexSets()
	}
	return set
}

func (r *Relay[R, S]) indexSets() {
	r.byTags = make(map[string]*Set[R, S], len(r.Sets))
	for _, set := range r.Sets {
		r.byTags[string(appendKey(nil, set.Tags))] = set
	}
}

// seriesOf finds or makes the series of a stat.
func (r *Relay[R, S]) seriesOf(set *Set[R, S], stat string) *Series[R, S] {
	if s := set.find(stat); s != nil {
		return s
	}
	s := &Series[R, S]{Stat: stat, Set: set, Index: r.next}
	r.next++
	r.series++
	if r.cache != nil {
		r.cache.series++
	}
	set.Series = append(set.Series, s)
	if set.byStat != nil {
		set.byStat[stat] = s
	} else if len(set.Series) > few {
		set.index()
	}
	return s
}

// find returns the series of a stat, nil if there is none.
func (s *Set[R, S]) find(stat string) *Series[R, S] {
	if s.byStat != nil {
		return s.byStat[stat]
	}
	for _, series := range s.Series {
		if series.Stat == stat {
			return series
		}
	}
	return nil
}

// index makes the map of the set's series, if they are not few.
func (s *Set[R, S]) index() {
	s.byStat = nil
	if len(s.Series) <= few {
		return
	}
	s.byStat = make(map[string]*Series[R, S], len(s.Series))
	for _, series := range s.Series {
		s.byStat[series.Stat] = series
	}
}
