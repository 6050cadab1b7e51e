package influx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/internal/lookup"
)

const (
	// maxSeries bounds the series that Raw remembers; beyond it those not seen lately are forgotten.
	maxSeries = 500_000
	// refusedFor is how long the readings of a series that InfluxDB refused are not offered again.
	refusedFor = 10 * time.Minute
	// listedRefusals bounds the rejects listed for one write.
	listedRefusals = 64
)

// RawOptions configure a Raw. Store is required.
type RawOptions struct {
	Store Store
	// EnsureSchema makes the database and the policies if they are not there. It is called before the first write and
	// when a write finds them gone, perhaps by both projections at once (nil: they are there).
	EnsureSchema func(context.Context) error
	// Retention is how long the policy keeps points: older readings are not written (0: all are).
	Retention time.Duration
	// Rejects lists what InfluxDB will never take (nil: it is counted and logged only).
	Rejects *projector.Rejects
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock for Retention (nil: time.Now).
	Now func() time.Time
}

// Raw writes every reading as a point: policy one_day, measurement and field named after the stat, tags as
// package lookup makes them. It is a projection for one runner.
//
// A reading's point has the event's time plus one nanosecond for each reading of the same series before it in the same
// event: always the same, so that writing again overwrites and never adds, and no reading overwrites another.
// Readings older than the policy keeps are left out and counted. What InfluxDB refuses is listed with its sequence, and
// that series is left alone for ten minutes, so that one bad series does not slow the others down for ever.
type Raw struct {
	o       RawOptions
	sink    *sink
	expired prometheus.Counter
	skipped prometheus.Counter

	cache    lookup.Cache[struct{}, rawSeries]
	readings []lookup.Reading[struct{}, rawSeries]
	done     uint64 // records up to here are written: a batch that is offered again goes on behind them
	points   []Point
	fields   []Field
	origins  []origin // of the points
	nExpired int      // readings left out since the last write, counted when it succeeds
	nSkipped int
	again    *rawStep // of a replay: it decides what is left alone, and takes the rejects; else nil
}

type rawSeries struct {
	series       *Series
	refusedUntil time.Time
}

// origin is where a point comes from.
type origin struct {
	seq    uint64
	series *lookup.Series[struct{}, rawSeries]
}

// NewRaw returns the projection influx_raw.
func NewRaw(o RawOptions) (*Raw, error) {
	if o.Store == nil {
		return nil, errors.New("influx: RawOptions needs a Store")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Raw{o: o}
	r.sink = newSink(o.Store, PolicyRaw, o.EnsureSchema, o.Logger, o.Registerer, r.Name())
	r.expired = newCounter(o.Registerer, r.Name(), "readings_expired_total", "Readings not written because they are older than the retention policy keeps.")
	r.skipped = newCounter(o.Registerer, r.Name(), "readings_refused_total", "Readings not offered because InfluxDB refused their series a short while ago.")
	return r, nil
}

// Name is "influx_raw".
func (r *Raw) Name() string { return "influx_raw" }

// Begin begins anew behind the position.
func (r *Raw) Begin(_ context.Context, span projector.Origin) error {
	r.done = span.Position
	return nil
}

// Apply writes the readings of the records. The position is the last record.
func (r *Raw) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	now := r.o.Now()
	oldest := int64(minTime)
	if r.o.Retention > 0 {
		oldest = now.Add(-r.o.Retention).UnixNano()
	}
	r.clear() // of an attempt that failed
	for i := range records {
		rec := &records[i]
		if rec.Seq <= r.done {
			continue
		}
		if rec.Event != nil {
			r.add(rec.Seq, rec.Event, oldest, now)
		}
		if len(r.points) >= writePoints || i == len(records)-1 {
			if err := r.flush(ctx, now); err != nil {
				return 0, err
			}
			r.done = rec.Seq
		}
	}
	if r.cache.Len() > maxSeries {
		r.cache.Sweep()
	}
	return records[len(records)-1].Seq, nil
}

// Persist makes the points durable.
func (r *Raw) Persist(ctx context.Context) error { return r.o.Store.Flush(ctx, PolicyRaw) }

// add makes points of an event's readings.
func (r *Raw) add(seq uint64, e *codec.Event, oldest int64, now time.Time) {
	if e.Time < oldest {
		r.nExpired += e.Readings()
		return
	}
	r.readings = r.cache.Relay(e.Relay).Resolve(e, r.readings[:0])
	for i := range r.readings {
		rd := &r.readings[i]
		s := &rd.Series.Data
		if s.series == nil {
			s.series = NewSeries(rd.Series.Stat, storedTags(rd.Series.Set.Tags)...)
		}
		if r.again != nil {
			if r.again.skip(seq, e.Time, rd.Series) {
				r.nSkipped++
				continue
			}
		} else if !s.refusedUntil.IsZero() {
			if now.Before(s.refusedUntil) {
				r.nSkipped++
				continue
			}
			s.refusedUntil = time.Time{}
		}
		n := len(r.fields)
		r.fields = append(r.fields, Field{rd.Series.Stat, rd.Value})
		r.points = append(r.points, Point{Series: s.series, Fields: r.fields[n : n+1 : n+1], Time: e.Time + rd.Nth})
		r.origins = append(r.origins, origin{seq, rd.Series})
	}
}

func (r *Raw) clear() {
	r.points, r.fields, r.origins = r.points[:0], r.fields[:0], r.origins[:0]
	r.nExpired, r.nSkipped = 0, 0
}

// flush writes the points and lists what was refused.
func (r *Raw) flush(ctx context.Context, now time.Time) error {
	refusals, err := r.sink.write(ctx, r.points)
	if err != nil {
		return err
	}
	if len(refusals) > 0 {
		r.refuse(refusals, now)
	}
	if r.again != nil {
		r.again.Expired += uint64(r.nExpired)
		r.again.Refused += uint64(r.nSkipped)
	}
	r.expired.Add(float64(r.nExpired))
	r.skipped.Add(float64(r.nSkipped))
	r.clear()
	return nil
}

func (r *Raw) refuse(refusals []refusal, now time.Time) {
	var rejects []projector.Reject
	var unlisted projector.Reject
	for _, f := range refusals {
		if f.count < f.to-f.from { // which of them is not known
			rejects = append(rejects, projector.Reject{Seq: r.origins[f.from].seq, To: r.origins[f.to-1].seq, Count: f.count,
				Reason: fmt.Sprintf("%s (records %d to %d)", f.reason, r.origins[f.from].seq, r.origins[f.to-1].seq)})
			continue
		}
		for i := f.from; i < f.to; i++ {
			o := r.origins[i]
			o.series.Data.refusedUntil = now.Add(refusedFor)
			if r.again != nil {
				r.again.refuse(o.series, r.points[i].Time, f.reason)
			}
			if len(rejects) < listedRefusals {
				rejects = append(rejects, projector.Reject{Seq: o.seq, Relay: o.series.Set.Relay.ID, Stat: o.series.Stat, Reason: f.reason})
			} else {
				unlisted.To, unlisted.Reason = o.seq, f.reason+" (and others of the same batch)"
				if unlisted.Count == 0 {
					unlisted.Seq = o.seq
				}
				unlisted.Count++
			}
		}
	}
	if unlisted.Count > 0 {
		rejects = append(rejects, unlisted)
	}
	if r.again != nil {
		r.again.take(rejects)
		return
	}
	list(r.o.Rejects, r.o.Logger, r.Name(), now, rejects)
}

// list lists rejects and logs the first. That a reject cannot be listed is logged, and stops nothing.
func list(to *projector.Rejects, log *slog.Logger, projection string, now time.Time, rejects []projector.Reject) {
	sign(log, projection, now, rejects)
	if to == nil || len(rejects) == 0 {
		return
	}
	if err := to.Add(rejects...); err != nil {
		log.Error("rejects cannot be listed", "projection", projection, "error", err)
	}
}

// sign completes rejects and logs the first.
func sign(log *slog.Logger, projection string, now time.Time, rejects []projector.Reject) {
	if len(rejects) == 0 {
		return
	}
	for i := range rejects {
		rejects[i].Projection, rejects[i].Time = projection, now
	}
	log.Error("readings are left behind, see GET /rejects", "projection", projection, "rejects", len(rejects),
		"seq", rejects[0].Seq, "relay", rejects[0].Relay, "stat", rejects[0].Stat, "reason", rejects[0].Reason)
}

// storedTags are tags in the store's type.
func storedTags(tags []lookup.Tag) []Tag {
	stored := make([]Tag, len(tags))
	for i, t := range tags {
		stored[i] = Tag{Key: t.Key, Value: t.Value}
	}
	return stored
}
