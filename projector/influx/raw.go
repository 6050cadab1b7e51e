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
	// maxSeries bounds the series that are remembered for five to ten minutes. Above it, those that
	// were not seen lately are forgotten at once.
	maxSeries = 500_000
	// refusedFor is how long the readings of a series that InfluxDB refused are not offered again.
	refusedFor = 10 * time.Minute
	// listedRefusals bounds the rejects listed for one write.
	listedRefusals = 64
)

// RawOptions configure a Raw. Store is required.
type RawOptions struct {
	Store Store
	// EnsureSchema makes the database and the policies if they are missing. It is called before the
	// first write, and when a write finds them missing, perhaps from several goroutines (nil: they
	// exist).
	EnsureSchema func(context.Context) error
	// Retention is how long the policy keeps points. Older readings are not written (0: all are).
	Retention time.Duration
	// Rejects lists the readings that InfluxDB will never take (nil: they are only counted and
	// logged).
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

// Raw writes every reading as a point under the policy one_day. The measurement and the field are
// named after the stat, and the tags are those that package lookup makes. Raw is a projection for
// one runner; RawPast writes past records for it.
//
// A reading's point has the event's time plus one nanosecond for each earlier reading of the same
// series in the same event. This time is always the same, so that writing again overwrites and
// never adds, and no reading overwrites another. Readings older than the policy keeps are left out
// and counted. A reading that InfluxDB refuses is listed with its sequence. For the next ten
// minutes no reading of that series in the same hour is offered, so that one bad series does not
// slow the others down for ever.
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

// Begin begins again after the saved position.
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

// list lists rejects in to, and logs the first. A failure to list them is logged, and stops
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

// sign sets the projection and the time of rejects, and logs the first.
func sign(log *slog.Logger, projection string, now time.Time, rejects []projector.Reject) {
	if len(rejects) == 0 {
		return
	}
	for i := range rejects {
		rejects[i].Projection, rejects[i].Time = projection, now
	}
	log.Error("readings are left behind, see GET /rejects", "projection", projection, "rejects", len(rejects),
		"seq", rejects[0].Seq, "edge", rejects[0].Edge, "relay", rejects[0].Relay, "stat", rejects[0].Stat, "reason", rejects[0].Reason)
}
