package influx

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

const (
	// writePoints is about how many points are written at once.
	writePoints = 10_000
	// splitFields is the number of fields from which on points are written in two halves at the
	// same time. InfluxDB uses one core for a write, and each write costs it an fsync, so a second
	// write does not pay for fewer fields.
	splitFields = 5000
	// searchWrites bounds the writes that search one write for its refused points.
	searchWrites = 64
	alarmEvery   = 10 * time.Minute
)

// sink writes a projection's points, many of them in two writes at a time. It makes the schema if
// the schema is missing, and finds the points that are refused. It belongs to the projection's
// goroutine.
type sink struct {
	store   Store
	policy  Policy
	ensure  func(context.Context) error
	ensured bool
	tally   tally
	log     *slog.Logger
	alarmed time.Time
	*sinkCounters
}

// sinkCounters count the points that a projection writes.
type sinkCounters struct{ written, dropped, refused, schemas, limits prometheus.Counter }

// tally counts the points of the writes that succeeded.
type tally struct{ written, dropped, refused uint64 }

func (t *tally) add(written int, res WriteResult) {
	t.written += uint64(written)
	t.dropped += uint64(res.Dropped)
	t.refused += uint64(res.Rejected)
}

func newSink(store Store, policy Policy, ensure func(context.Context) error, log *slog.Logger, counters *sinkCounters) *sink {
	return &sink{store: store, policy: policy, ensure: ensure, log: log, sinkCounters: counters}
}

func newSinkCounters(reg prometheus.Registerer, projection string) *sinkCounters {
	counter := func(name, help string) prometheus.Counter { return newCounter(reg, projection, name, help) }
	return &sinkCounters{
		written: counter("points_written_total", "Points that InfluxDB took."),
		dropped: counter("points_dropped_total", "Points that InfluxDB dropped because they are older than the retention policy keeps."),
		refused: counter("points_refused_total", "Points that InfluxDB will never take; listed by GET /rejects."),
		schemas: counter("schema_ensured_total", "Times that the database and its retention policies were looked after: at the start, and when InfluxDB had lost them."),
		limits:  counter("series_limit_total", "Writes in which InfluxDB refused new series because of max-series-per-database or max-values-per-tag."),
	}
}

// newCounter makes a counter of one projection, or returns the counter of an earlier instance.
func newCounter(reg prometheus.Registerer, projection, name, help string) prometheus.Counter {
	return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Namespace: "pulse", Subsystem: "projector",
		Name: name, Help: help, ConstLabels: prometheus.Labels{"projection": projection}}))
}

// refusal means that count points of [from, to) were refused. If count is less than to-from, it is
// not known which of them.
type refusal struct {
	from, to, count int
	reason          string
}

// write writes points. It returns the points that the store will never take. The others are stored,
// and durable after the next Flush, or dropped as too old. After an error, offer the same points
// again.
func (s *sink) write(ctx context.Context, points []Point) ([]refusal, error) {
	if len(points) == 0 {
		return nil, nil
	}
	if err := s.ensureSchema(ctx); err != nil {
		return nil, err
	}
	parts := halves(points)
	results, errs := make([]WriteResult, len(parts)), make([]error, len(parts))
	var writing sync.WaitGroup
	for i, part := range parts[1:] {
		writing.Go(func() { results[i+1], errs[i+1] = s.store.Write(ctx, s.policy, part) })
	}
	results[0], errs[0] = s.store.Write(ctx, s.policy, parts[0])
	writing.Wait()

	for i, err := range errs {
		if err == nil {
			continue
		}
		if KindOf(err) != Schema {
			return nil, err
		}
		s.log.Warn("InfluxDB has lost the database or a retention policy; making them again", "error", err)
		s.ensured = false
		if results[i], err = s.try(ctx, parts[i]); err != nil {
			return nil, err
		}
	}

	var refusals []refusal
	from, total := 0, WriteResult{}
	for i, res := range results {
		total.add(res)
		budget := searchWrites
		var err error
		if refusals, err = s.search(ctx, points, from, from+len(parts[i]), res, &budget, refusals); err != nil {
			return nil, err
		}
		from += len(parts[i])
	}
	written := max(0, len(points)-total.Dropped-total.Rejected)
	s.dropped.Add(float64(total.Dropped))
	s.refused.Add(float64(total.Rejected))
	s.written.Add(float64(written))
	if total.Limit {
		s.alarm(total.Reason)
	}
	s.tally.add(written, total)
	return refusals, nil
}

// halves returns the parts of points that are written at the same time.
func halves(points []Point) [][]Point {
	fields := 0
	for i := range points {
		fields += len(points[i].Fields)
	}
	if half := len(points) / 2; fields >= splitFields && half > 0 {
		return [][]Point{points[:half], points[half:]}
	}
	return [][]Point{points}
}

// alarm counts that a limit of InfluxDB costs readings, and logs it at most every alarmEvery.
func (s *sink) alarm(reason string) {
	s.limits.Inc()
	if s.alarmed.IsZero() || time.Since(s.alarmed) > alarmEvery {
		s.alarmed = time.Now()
		s.log.Error("InfluxDB refuses new series: raise max-series-per-database and max-values-per-tag in its configuration, or send fewer tags", "reason", reason)
	}
}

// try writes points, after making the schema if the schema was missing.
func (s *sink) try(ctx context.Context, points []Point) (WriteResult, error) {
	if err := s.ensureSchema(ctx); err != nil {
		return WriteResult{}, err
	}
	res, err := s.store.Write(ctx, s.policy, points)
	if err != nil && KindOf(err) == Schema {
		s.ensured = false
	}
	return res, err
}

func (s *sink) ensureSchema(ctx context.Context) error {
	if s.ensured || s.ensure == nil {
		return nil
	}
	if err := s.ensure(ctx); err != nil {
		return fmt.Errorf("making the schema in InfluxDB: %w", err)
	}
	s.schemas.Inc()
	s.ensured = true
	return nil
}

// search appends the refused points among points[from:to] to found. res is the result of writing
// them. The store does not say which points it refused, so search writes halves of them again,
// which is harmless. budget is how many writes it may still use.
func (s *sink) search(ctx context.Context, points []Point, from, to int, res WriteResult, budget *int, found []refusal) ([]refusal, error) {
	if res.Rejected == 0 {
		return found, nil
	}
	if res.Rejected >= to-from || *budget < 2 {
		return append(found, refusal{from, to, min(res.Rejected, to-from), res.Reason}), nil
	}
	*budget -= 2
	half := from + (to-from)/2
	for _, part := range [2][2]int{{from, half}, {half, to}} {
		res, err := s.try(ctx, points[part[0]:part[1]])
		if err != nil {
			return nil, err
		}
		if found, err = s.search(ctx, points, part[0], part[1], res, budget, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}
