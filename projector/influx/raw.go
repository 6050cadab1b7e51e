package influx

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

const (
	// maxSeries bounds the series that are remembered; beyond it those not seen lately are
	// forgotten.
	maxSeries = 500_000
	// refusedFor is how long the readings of a series that InfluxDB refused are not offered again.
	refusedFor = 10 * time.Minute
	// listedRefusals bounds the rejects listed for one write.
	listedRefusals = 64
)

// RawOptions configure a Raw. Store is required.
type RawOptions struct {
	Store Store
	// EnsureSchema makes the database and the policies if they are not there. It is called before
	// the first write and when a write finds them gone, perhaps from several goroutines (nil: they
	// are there).
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

func (o RawOptions) withDefaults() (RawOptions, error) {
	if o.Store == nil {
		return o, errors.New("influx: RawOptions needs a Store")
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
	return o, nil
}

// rawProjection is the name of the projection of raw points.
const rawProjection = "influx_raw"

// Raw writes every reading as a point: policy one_day, measurement and field named after the stat,
// tags as package lookup makes them. It is a projection for one runner; RawPast goes over the past
// for it.
//
// A reading's point has the event's time plus one nanosecond for each reading of the same series
// before it in the same event: always the same, so that writing again overwrites and never adds,
// and no reading overwrites another. Readings older than the policy keeps are left out and counted.
// What InfluxDB refuses is listed with its sequence, and that series is left alone for ten minutes
// in the same hour, so that one bad series does not slow the others down for ever.
type Raw struct{ w *rawWriter }

// NewRaw returns the projection influx_raw.
func NewRaw(o RawOptions) (*Raw, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Raw{newRawWriter(o)}, nil
}

// Name is "influx_raw".
func (r *Raw) Name() string { return rawProjection }

// Begin begins again after the position.
func (r *Raw) Begin(_ context.Context, from projector.Origin) error {
	r.w.done = from.Position
	return nil
}

// Apply writes the readings of the records. The position is the last record.
func (r *Raw) Apply(ctx context.Context, records []journal.Record) (uint64, error) {
	done, err := r.w.write(ctx, records)
	list(r.w.o.Rejects, r.w.o.Logger, r.Name(), r.w.o.Now(), done.rejects)
	return records[len(records)-1].Seq, err
}

// Persist makes the points durable.
func (r *Raw) Persist(ctx context.Context) error { return r.w.o.Store.Flush(ctx, PolicyRaw) }

// list lists rejects and logs the first. That a reject cannot be listed is logged, and stops
// nothing.
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
