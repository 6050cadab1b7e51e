// Package latest keeps the newest reading of every series in memory.
//
// Latest is a projection without a position: at every start a runner rebuilds it from the last two
// poll intervals of the journal. The newest reading is the last one in the journal, whatever the
// clocks said. So a clock that was once ahead does not keep an old value for ever. Readings are
// indexed by stat and by (stat, tag): a query with a filter touches only the series that the filter
// names. Queries run concurrently with each other; the writer interrupts them for some tens of
// microseconds at a time.
//
// A series that was not seen for Options.MaxAge is forgotten, so that memory is used for live
// series only. When a relay is forgotten (codec.RelayForgotten), its series are no longer selected,
// and the next Tick forgets them.
package latest

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// DefaultMaxAge is how long a series without new readings is kept.
	DefaultMaxAge = 24 * time.Hour
	// DefaultPollInterval is how often collectors are polled.
	DefaultPollInterval = time.Minute
	// lockReadings is roughly how many readings are written while the lock is held once.
	lockReadings = 512
	sweepEvery   = time.Minute
)

// Tag is one key and value of a series.
type Tag = lookup.Tag

// Reading is the newest reading of a series.
type Reading struct {
	// Time is the time of the reading, in nanoseconds since 1970 UTC.
	Time  int64
	Value float64
	// Tags are the tags of the series, including `host` and `edge`, sorted by key. They must not be changed.
	Tags []Tag
}

// Options configures a Latest. The zero value is ready to use.
type Options struct {
	// MaxAge is how long a series without new readings is kept (0: DefaultMaxAge).
	MaxAge time.Duration
	// PollInterval is how often collectors are polled without an override (0: DefaultPollInterval).
	PollInterval time.Duration
	// Registerer gets the metrics (nil: a private one).
	Registerer prometheus.Registerer
}

// Latest is the projection. The runner calls Apply and Tick. Override must be called before the
// runner starts; all other methods may be called from any goroutine.
type Latest struct {
	maxAge, poll time.Duration

	// Only the runner's goroutine uses these fields.
	cache     lookup.Cache[struct{}, slot]
	readings  []lookup.Reading[struct{}, slot]
	ids       []tagID
	applied   uint64
	nextSweep time.Time
	overrides map[codec.RelayKey]map[string][]hold // slow overrides, by relay and collector

	// mu guards the tables and their content. The runner's goroutine is the only writer, so it
	// reads without mu.
	mu     sync.RWMutex
	tables map[string]*table // by stat
	tags   tagIDs

	series  prometheus.Gauge
	evicted prometheus.Counter
}

// New returns an empty Latest.
func New(o Options) *Latest {
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.PollInterval <= 0 {
		o.PollInterval = DefaultPollInterval
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	l := &Latest{
		maxAge:    o.MaxAge,
		poll:      o.PollInterval,
		overrides: make(map[codec.RelayKey]map[string][]hold),
		tables:    make(map[string]*table),
		tags:      tagIDs{used: make(map[Tag]*usedTag), keys: make(map[string]int)},
		series: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_projector_latest_series", Help: "Series whose newest reading is kept in memory."}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_projector_latest_evicted_total", Help: "Series forgotten because they were silent for too long, or their relay was forgotten."}),
	}
	o.Registerer.MustRegister(l.series, l.evicted)
	return l
}

// Name returns "latest".
func (l *Latest) Name() string { return "latest" }

// Apply stores the readings of the records. It never fails.
func (l *Latest) Apply(_ context.Context, records []journal.Record) (uint64, error) {
	for i := 0; i < len(records); {
		l.mu.Lock()
		for n := 0; n < lockReadings && i < len(records); i++ {
			switch e, relay := records[i].Event, records[i].Relay; {
			case e != nil:
				n += 1 + l.take(e)
			case relay != nil && relay.Kind == codec.RelayForgotten:
				n += 1 + l.forget(relay)
			case relay != nil && relay.Kind == codec.RelayOverride:
				n += 1 + l.override(relay)
			}
		}
		l.mu.Unlock()
	}
	l.applied = records[len(records)-1].Seq
	return l.applied, nil
}

// take stores the readings of one event and returns how many there are. mu is held.
func (l *Latest) take(e *codec.Event) int {
	l.readings = l.cache.Relay(e.Key()).Resolve(e, l.readings[:0])
	for i := range l.readings {
		r := &l.readings[i]
		at := &r.Series.Data
		if at.table == nil {
			l.add(r.Series)
		}
		row := &at.table.rows[at.row]
		if e.Past && row.time >= e.Time+r.Nth {
			continue // there is a newer one
		}
		row.time, row.value, row.slack = e.Time+r.Nth, r.Value, 0
	}
	if collectors := l.overrides[e.Key()]; collectors != nil && !e.Past {
		l.extend(e, collectors)
	}
	return len(l.readings)
}

// forget gives the rows of a relay a time at which no query selects them, and counts the rows. The
// sweep of the next Tick removes them. forget leaves readings alone that are newer than the event,
// because the relay may have come back before the event was in the journal. mu is held.
func (l *Latest) forget(e *codec.RelayEvent) int {
	delete(l.overrides, e.Key())
	r := l.cache.Find(e.Key())
	if r == nil {
		return 0
	}
	n := 0
	for _, set := range r.Sets {
		for _, s := range set.Series {
			if at := s.Data; at.table != nil && at.table.rows[at.row].time <= e.Time {
				at.table.rows[at.row].time, at.table.rows[at.row].slack = math.MinInt64, 0
				n++
			}
		}
	}
	if n > 0 {
		l.nextSweep = time.Unix(0, 1)
	}
	return n
}

// add makes a row for a series.
func (l *Latest) add(s *lookup.Series[struct{}, slot]) {
	t := l.tables[s.Stat]
	if t == nil {
		t = newTable(0)
		l.tables[s.Stat] = t
	}
	l.ids = l.tags.take(s.Set.Tags, l.ids[:0])
	t.add(s, l.ids)
	l.series.Inc()
}

// Tick forgets silent series, once a minute and after a relay was forgotten. It never fails.
func (l *Latest) Tick(_ context.Context, now time.Time) (uint64, error) {
	if l.nextSweep.IsZero() {
		l.nextSweep = now.Add(sweepEvery)
	}
	if wait := l.nextSweep.Sub(now); wait <= 0 || wait > sweepEvery { // or the clock stepped back
		l.nextSweep = now.Add(sweepEvery)
		l.pruneOverrides(now)
		l.sweep(now)
	}
	return l.applied, nil
}

// sweep forgets the series whose newest reading is older than maxAge, or, because of a clock that
// was ahead, more than maxAge in the future.
func (l *Latest) sweep(now time.Time) {
	oldest, newest := now.Add(-l.maxAge).UnixNano(), now.Add(l.maxAge).UnixNano()
	thinned := make(map[*lookup.Relay[struct{}, slot]]bool)
	for stat, t := range l.tables {
		gone := 0
		for i := range t.rows {
			if t.rows[i].outside(oldest, newest) {
				gone++
			}
		}
		if gone == 0 {
			continue
		}
		// The new table is built beside the old one, which only this goroutine changes.
		next := newTable(len(t.rows) - gone)
		var dead []*lookup.Series[struct{}, slot]
		for i := range t.rows {
			row := &t.rows[i]
			if row.outside(oldest, newest) {
				dead = append(dead, row.series)
				continue
			}
			l.ids = l.tags.of(row.tags, l.ids[:0])
			next.add(row.series, l.ids)
			last := &next.rows[len(next.rows)-1]
			last.time, last.value, last.slack = row.time, row.value, row.slack
		}
		l.mu.Lock()
		if len(next.rows) == 0 {
			delete(l.tables, stat)
		} else {
			l.tables[stat] = next
		}
		for _, s := range dead {
			l.tags.drop(s.Set.Tags)
		}
		l.mu.Unlock()
		for _, s := range dead {
			s.Data = slot{}
			thinned[s.Set.Relay] = true
		}
		l.series.Sub(float64(gone))
		l.evicted.Add(float64(gone))
	}
	for r := range thinned {
		r.Keep(func(s *lookup.Series[struct{}, slot]) bool { return s.Data.table != nil })
		if r.Len() == 0 {
			l.cache.Drop(r)
		}
	}
}

// Select visits the newest reading of every series of stat that matches the filters and is not
// older than since (nanoseconds since 1970 UTC), in no particular order. since is expected to be
// two poll intervals ago. While an override makes a collector's polls rarer than every
// PollInterval, the collector's readings may be older by twice the difference of the intervals. A
// series matches if for each key of filters its tag has one of the given values; a series without
// the tag has the value "". visit must be quick and must not call back, because the writer waits
// for it.
func (l *Latest) Select(stat string, filters map[string][]string, since int64, visit func(Reading)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.tables[stat]
	if t == nil {
		return
	}
	// Go through the series of the key whose values have the fewest series, and check the other
	// filters for each. No list has the series that lack a tag, so a key with the value "" never
	// leads.
	lead, fewest := "", math.MaxInt
	var one [1]int32
	for key, values := range filters {
		if slices.Contains(values, "") {
			continue
		}
		n := 0
		for _, v := range values {
			n += len(l.with(t, Tag{Key: key, Value: v}, &one))
		}
		if n < fewest {
			lead, fewest = key, n
		}
	}
	var few [8]filter
	others := few[:0]
	for key, values := range filters {
		if key != lead || fewest == math.MaxInt {
			others = append(others, filter{key, values})
		}
	}
	visitRow := func(row *row) {
		if row.time+row.slack >= since && matches(row.tags, others) {
			visit(Reading{row.time, row.value, row.tags})
		}
	}
	if fewest == math.MaxInt {
		for i := range t.rows {
			visitRow(&t.rows[i])
		}
		return
	}
	leading := filters[lead]
	for i, v := range leading {
		if slices.Contains(leading[:i], v) {
			continue
		}
		for _, at := range l.with(t, Tag{Key: lead, Value: v}, &one) {
			visitRow(&t.rows[at])
		}
	}
}

// with returns the rows of a table with a tag. one is memory for the answer. mu is held.
func (l *Latest) with(t *table, tag Tag, one *[1]int32) []int32 {
	if u := l.tags.used[tag]; u != nil {
		return t.with(u.id, one)
	}
	return nil
}

// filter is one key of the filters. A slice of filters is much faster for each row than the map.
type filter struct {
	key    string
	values []string
}

// matches reports whether tags match all of the filters.
func matches(tags []Tag, filters []filter) bool {
	for _, f := range filters {
		value := ""
		if i := slices.IndexFunc(tags, func(t Tag) bool { return t.Key == f.key }); i >= 0 {
			value = tags[i].Value
		}
		if !slices.Contains(f.values, value) {
			return false
		}
	}
	return true
}

// Stats returns the ids of the stats that have readings, sorted.
func (l *Latest) Stats() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sortedKeys(l.tables)
}

// TagKeys returns the tag keys of all series, sorted. These are the keys that filters can use.
func (l *Latest) TagKeys() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sortedKeys(l.tags.keys)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
