package past

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// metrics count what replays did; dry runs are in jobs, failures and seconds only.
type metrics struct {
	events, readings, points, expired, refused, lost, jobs *prometheus.CounterVec
	failures, seconds                                      prometheus.Counter
	running                                                prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, projections []string) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "pulse", Subsystem: "projector", Name: name, Help: help}
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts(opts("replay_"+name, help)), []string{label}))
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	by := func(name, help string) *prometheus.CounterVec { return vec(name, help, "projection", projections...) }
	return &metrics{
		events:   by("events_total", "Polls' replies gone over by replays."),
		readings: by("readings_total", "Readings in them."),
		points:   by("points_total", "Points and rows written by replays."),
		expired:  by("expired_readings_total", "Readings that replays left out because they are older than InfluxDB keeps them."),
		refused:  by("refused_total", "Readings and rows that InfluxDB refused again; listed by GET /rejects."),
		lost:     by("lost_records_total", "Records of replayed ranges that the journal does not have any more."),
		jobs: vec("jobs_total", "Replays that have ended, by how.", "state",
			string(StateDone), string(StateCanceled), string(StateFailed)),
		failures: metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts(opts("replay_failures_total",
			"Temporary failures of replays; each was followed by a back-off and another try.")))),
		seconds: metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts(opts("replay_seconds_total", "Time spent on the steps of replays.")))),
		running: metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts(opts("replays_running", "Replays under way: 0 or 1.")))),
	}
}

func (m *metrics) count(projection string, dryRun bool, c Counts) {
	if dryRun {
		return
	}
	for v, n := range map[*prometheus.CounterVec]uint64{m.events: c.Events, m.readings: c.Readings, m.points: c.Points,
		m.expired: c.Expired, m.refused: c.Refused, m.lost: c.Lost} {
		v.WithLabelValues(projection).Add(float64(n))
	}
}
