// Package latest keeps the newest reading of every series in memory.
//
// It is a projection without a position: a runner rebuilds it from the journal's last two poll
// intervals at every start. Newest means last in the journal, whatever the clocks said, so that a
// clock that was once ahead does not keep an old value for ever. Readings are indexed by stat and
// by (stat, tag): a query with a filter touches the series that the filter names and no others.
// Queries run concurrently with each other; the writer interrupts them for some tens of
// microseconds at a time.
//
// A series that was not seen for Options.MaxAge is forgotten, so that memory follows what is alive.
// The series of a relay that is forgotten (codec.RelayForgotten) are not selected any more, and are
// forgotten with the next Tick.
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
	// DefaultMaxAge is how long a series that is silent is kept.
	DefaultMaxAge = 24 * time.Hour
	// DefaultPollInterval is how often collectors are polled.
	DefaultPollInterval = time.Minute
	// lockReadings is about how many readings are written under one hold of the lock.
	lockReadings = 512
	sweepEvery   = time.Minute
)

// Tag is one key and value of a series.
type Tag = lookup.Tag

// Reading is the newest reading of a series.
type Reading struct {
	// Time is the reading's, in nanoseconds since 1970 UTC.
	Time  int64
	Value float64
	// Tags are the series' tags, `host` among them, sorted by key. They must not be changed.
	Tags []Tag
}

// Options configure a Latest. The zero value is good.
type Options struct {
	// MaxAge is how long a series is kept that gets no readings (0: DefaultMaxAge).
	MaxAge time.Duration
	// PollInterval is how often collectors are polled without an override (0: DefaultPollInterval).
	PollInterval time.Duration
	// Registerer gets the metrics (nil: a private one).
	Registerer prometheus.Registerer
}

// Latest is the projection. Apply and Tick are the runner's; everything else may be called from any
// goroutine.
type Latest struct {
	maxAge, poll time.Duration

	// Of the runner's goroutine.
	cache     lookup.Cache[struct{}, slot]
	readings  []lookup.Reading[struct{}, slot]
	applied   uint64
	nextSweep time.Time
	overrides map[string]map[string][]hold // that are slow, by relay and collector

	// mu guards the tables and what is in them. The runner's goroutine is the only writer, and
	// reads without it.
	mu     sync.RWMutex
	tables map[string]*table // by stat
	keys   map[string]int    // how many series have a tag with this key

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
		overrides: make(map[string]map[string][]hold),
		tables:    make(map[string]*table),
		keys:      make(map[string]int),
		series: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_projector_latest_series", Help: "Series whose newest reading is kept in memory."}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_projector_latest_evicted_total", Help: "Series forgotten because they were silent for too long, or their relay was forgotten."}),
	}
	o.Registerer.MustRegister(l.series, l.evicted)
	return l
}

// Name is "latest".
func (l *Latest) Name() string { return "latest" }

// Apply takes the readings of the records. It never fails.
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

// take takes the readings of one event, under the lock, and counts them.
func (l *Latest) take(e *codec.Event) int {
	l.readings = l.cache.Relay(e.Relay).Resolve(e, l.readings[:0])
	for i := range l.readings {
		r := &l.readings[i]
		at := &r.Series.Data
		if at.table == nil {
			l.add(r.Series)
		}
		row := &at.table.rows[at.row]
		row.time, row.value, row.slack = e.Time+r.Nth, r.Value, 0
	}
	if collectors := l.overrides[e.Relay]; collectors != nil {
		l.extend(e, collectors)
	}
	return len(l.readings)
}

// forget gives the rows of a relay a time at which nobody selects them, under the lock, and counts
// them: the sweep of the next Tick takes them out. It leaves readings alone that are newer than the
// event: the relay may have come back before the journal had the event.
func (l *Latest) forget(e *codec.RelayEvent) int {
	delete(l.overrides, e.Relay)
	r := l.cache.Find(e.Relay)
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
	t.add(s)
	for _, tag := range s.Set.Tags {
		l.keys[tag.Key]++
	}
	l.series.Inc()
}

// Tick forgets silent series, once a minute or after a relay was forgotten. It never fails.
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

// sweep forgets the series whose newest reading is further than maxAge from now: before it, or
// behind it by a clock that was ahead.
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
		// The new table is built beside the old one, which nobody but this goroutine changes.
		next := newTable(len(t.rows) - gone)
		var dead []*lookup.Series[struct{}, slot]
		for i := range t.rows {
			row := &t.rows[i]
			if row.outside(oldest, newest) {
				dead = append(dead, row.series)
				continue
			}
			next.add(row.series)
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
			for _, tag := range s.Set.Tags {
				if l.keys[tag.Key]--; l.keys[tag.Key] == 0 {
					delete(l.keys, tag.Key)
				}
			}
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
// older than since (nanoseconds since 1970 UTC), in no particular order. While an override has a
// collector polled less often than every PollInterval, its readings may be older by twice the
// difference: since is taken for two poll intervals ago. A series matches if for each key of
// filters its tag has one of the values given; a series without that tag has the value "". visit
// must be quick and must not call back: the writer waits for it.
func (l *Latest) Select(stat string, filters map[string][]string, since int64, visit func(Reading)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := l.tables[stat]
	if t == nil {
		return
	}
	// The key whose values have the fewest series leads; the others are checked one by one. No list
	// says which series lack a tag, so a key that may be missing never leads.
	lead, fewest := "", math.MaxInt
	for key, values := range filters {
		if slices.Contains(values, "") {
			continue
		}
		n := 0
		for _, v := range values {
			n += len(t.byTag[Tag{Key: key, Value: v}])
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
		for _, at := range t.byTag[Tag{Key: lead, Value: v}] {
			visitRow(&t.rows[at])
		}
	}
}

// filter is one key of the filters: walking a map for every row would cost more than all else.
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

// TagKeys returns the keys of the tags that series have, sorted: what can be filtered by.
func (l *Latest) TagKeys() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return sortedKeys(l.keys)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
