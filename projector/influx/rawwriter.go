package influx

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/floor"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
	"github.com/nanopack/pulse/projector/past"
)

// rawWriter makes points of the readings of records, and writes them. It is for one goroutine.
type rawWriter struct {
	o        RawOptions
	sink     *sink
	counters *rawCounters

	cache    lookup.Cache[rawRelay, struct{}]
	readings []lookup.Reading[rawRelay, struct{}]
	done     uint64 // the last record written: a batch that is offered again goes on after it
	points   []Point
	fields   []Field
	origins  []origin // of the points
	expired  int      // readings too old since the last write; counted when the next one succeeds
	skipped  []origin // readings not offered since the last write

	// refused holds the newest refusal of the series that have one and are in the cache.
	refused map[*rawSeries]refused
	// round counts how often all series are offered again: only refusals of this round count.
	round int
}

// rawCounters count the points that are written, and the readings that are not.
type rawCounters struct {
	*sinkCounters
	expired, skipped prometheus.Counter
}

func newRawCounters(reg prometheus.Registerer) *rawCounters {
	return &rawCounters{
		sinkCounters: newSinkCounters(reg, rawProjection),
		expired:      newCounter(reg, rawProjection, "readings_expired_total", "Readings not written because they are older than the retention policy keeps."),
		skipped:      newCounter(reg, rawProjection, "readings_refused_total", "Readings not offered because InfluxDB refused their series a short while ago."),
	}
}

type (
	rawSet    = lookup.Set[rawRelay, struct{}]
	rawSeries = lookup.Series[rawRelay, struct{}]
)

// rawRelay is what raw keeps of a relay.
type rawRelay struct {
	tags    []rawTags // by lookup.Set.Index
	refused bool      // a series of the relay was refused
}

// rawTags are the tags of a set in the store's form. When sets were forgotten, a new set may have
// the Index of another.
type rawTags struct {
	set  *rawSet
	tags *TagSet
}

// refused is the newest refusal of a series. A shard holds whole hours, and refuses either all
// points of a series or none.
type refused struct {
	hour   int64 // hours since 1970
	until  time.Time
	round  int
	reason string
}

// origin is the record and the series that a point was made of.
type origin struct {
	seq    uint64
	series *rawSeries
}

// reject returns the reject of the origin's reading.
func (o origin) reject(reason string) projector.Reject {
	key := o.series.Set.Relay.Key
	return projector.Reject{Seq: o.seq, Edge: key.Edge, Relay: key.Relay, Stat: o.series.Stat, Reason: reason}
}

// rawWritten is the outcome of writing some records.
type rawWritten struct {
	past.Counts // Points, Expired and Refused
	rejects     []projector.Reject
	skipped     []origin // readings that were not offered
}

func newRawWriter(o RawOptions) *rawWriter {
	w := &rawWriter{o: o, sink: newSink(o.Store, PolicyRaw, o.EnsureSchema, o.Logger, nil), round: 1,
		refused: make(map[*rawSeries]refused)}
	w.countWith(newRawCounters(o.Registerer))
	return w
}

// countWith makes c the counters from now on.
func (w *rawWriter) countWith(c *rawCounters) { w.counters, w.sink.sinkCounters = c, c.sinkCounters }

// write writes the readings of the records. It returns what was written also with an error. Then
// the same records should be offered again, and write goes on after the last record it wrote.
func (w *rawWriter) write(ctx context.Context, records []journal.Record) (done rawWritten, err error) {
	now := w.o.Now()
	oldest := int64(minTime)
	if w.o.Retention > 0 {
		oldest = now.Add(-w.o.Retention).UnixNano()
	}
	w.clear() // the points of an attempt that failed
	for i := range records {
		rec := &records[i]
		if rec.Seq <= w.done {
			continue
		}
		if rec.Event != nil {
			w.add(rec.Seq, rec.Event, oldest, now)
		}
		if len(w.points) >= writePoints || i == len(records)-1 {
			if err := w.flush(ctx, now, &done); err != nil {
				return done, err
			}
			w.done = rec.Seq
		}
	}
	w.forget(now)
	return done, nil
}

// forget forgets the series that were not seen lately.
func (w *rawWriter) forget(now time.Time) {
	before := w.cache.Len()
	if before > maxSeries {
		w.cache.Sweep()
	} else {
		w.cache.Expire(now)
	}
	if w.cache.Len() == before {
		return
	}
	maps.DeleteFunc(w.refused, func(s *rawSeries, _ refused) bool {
		relay := s.Set.Relay
		return w.cache.Find(relay.Key) != relay || !slices.Contains(s.Set.Series, s)
	})
	w.readings, w.points, w.origins, w.skipped = nil, nil, nil, nil // they keep forgotten series alive
}

// add makes points of an event's readings.
func (w *rawWriter) add(seq uint64, e *codec.Event, oldest int64, now time.Time) {
	if e.Time < oldest {
		w.expired += e.Readings()
		return
	}
	hour := floor.Div(e.Time, int64(time.Hour))
	relay := w.cache.Relay(e.Key())
	w.readings = relay.Resolve(e, w.readings[:0])
	var set *rawSet
	var tags *TagSet
	for i := range w.readings {
		rd := &w.readings[i]
		s := rd.Series
		if relay.Data.refused && w.isRefused(s, hour, now) {
			w.skipped = append(w.skipped, origin{seq, s})
			continue
		}
		if s.Set != set {
			set, tags = s.Set, relay.Data.tagsOf(s.Set)
		}
		n := len(w.fields)
		w.fields = append(w.fields, Field{s.Stat, rd.Value})
		w.points = append(w.points, Point{Series: tags.Series(s.Stat), Fields: w.fields[n : n+1 : n+1], Time: e.Time + rd.Nth})
		w.origins = append(w.origins, origin{seq, s})
	}
}

// isRefused reports whether the series is not offered now, and forgets a refusal whose time is over.
func (w *rawWriter) isRefused(s *rawSeries, hour int64, now time.Time) bool {
	f, ok := w.refused[s]
	if ok && !now.Before(f.until) {
		delete(w.refused, s)
		return false
	}
	return ok && f.round == w.round && f.hour == hour
}

// tagsOf returns the tags of a set of the relay in the store's form.
func (r *rawRelay) tagsOf(set *rawSet) *TagSet {
	for len(r.tags) <= set.Index {
		r.tags = append(r.tags, rawTags{})
	}
	t := &r.tags[set.Index]
	if t.set != set {
		*t = rawTags{set, storedTags(set.Tags)}
	}
	return t.tags
}

func (w *rawWriter) clear() {
	w.points, w.fields, w.origins = w.points[:0], w.fields[:0], w.origins[:0]
	w.expired, w.skipped = 0, w.skipped[:0]
}

// flush writes the points, and adds their outcome to done.
func (w *rawWriter) flush(ctx context.Context, now time.Time, done *rawWritten) error {
	before := w.sink.tally
	refusals, err := w.sink.write(ctx, w.points)
	after := w.sink.tally
	done.Points += after.written - before.written
	done.Expired += after.dropped - before.dropped
	done.Refused += after.refused - before.refused
	if err != nil {
		return err
	}
	done.rejects = append(done.rejects, w.refuse(refusals, now)...)
	done.Expired += uint64(w.expired)
	done.Refused += uint64(len(w.skipped))
	done.skipped = append(done.skipped, w.skipped...)
	w.counters.expired.Add(float64(w.expired))
	w.counters.skipped.Add(float64(len(w.skipped)))
	w.clear()
	return nil
}

// refuse notes the series of refused points, so that they are not offered for a while, and returns
// the rejects.
func (w *rawWriter) refuse(refusals []refusal, now time.Time) (rejects []projector.Reject) {
	var unlisted projector.Reject
	for _, f := range refusals {
		if f.count < f.to-f.from { // some of the points, not known which
			first, last := w.origins[f.from].seq, w.origins[f.to-1].seq
			rejects = append(rejects, projector.Reject{Seq: first, To: last, Count: f.count,
				Reason: fmt.Sprintf("%s (records %d to %d)", f.reason, first, last)})
			continue
		}
		for i := f.from; i < f.to; i++ {
			o := w.origins[i]
			hour := floor.Div(w.points[i].Time, int64(time.Hour))
			w.refused[o.series] = refused{hour, now.Add(refusedFor), w.round, f.reason}
			o.series.Set.Relay.Data.refused = true
			if len(rejects) < listedRefusals {
				rejects = append(rejects, o.reject(f.reason))
				continue
			}
			unlisted.To, unlisted.Reason = o.seq, f.reason+" (and others of the same batch)"
			if unlisted.Count == 0 {
				unlisted.Seq = o.seq
			}
			unlisted.Count++
		}
	}
	if unlisted.Count > 0 {
		rejects = append(rejects, unlisted)
	}
	return rejects
}

// storedTags converts tags to the store's form.
func storedTags(tags []lookup.Tag) *TagSet {
	stored := make([]Tag, len(tags))
	for i, t := range tags {
		stored[i] = Tag{Key: t.Key, Value: t.Value}
	}
	return NewTagSet(stored...)
}
