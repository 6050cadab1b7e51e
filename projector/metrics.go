package projector

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// metrics are a runner's own, beside those of its account.
type metrics struct {
	setBacks, saves, jumps                     prometheus.Counter
	position, lag, lagSeconds, backlog, toLoss prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, projection string) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts(opts(projection, name, help))))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts(opts(projection, name, help))))
	}
	m := &metrics{
		setBacks:   counter("set_back_total", "Times that the position was beyond the journal's end and was set back to it."),
		saves:      counter("position_saves_total", "Positions saved."),
		jumps:      counter("jumps_total", "Times that the projection went on at the journal's end and left what lies behind to be filled in."),
		position:   gauge("position", "Sequence number up to which no record is needed again."),
		lag:        gauge("lag_records", "Records in the journal that are not applied yet."),
		lagSeconds: gauge("lag_seconds", "Age of the oldest of them, about."),
		backlog:    gauge("backlog_records", "Records that are still to be filled in behind."),
		toLoss:     gauge("seconds_to_loss", "When the journal drops the first record that is not applied; +Inf if none waits."),
	}
	m.toLoss.Set(math.Inf(1))
	return m
}

// opts are a projection's own: its name is a constant label, so that projections share a registry.
func opts(projection, name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: "pulse", Subsystem: "projector", Name: name, Help: help,
		ConstLabels: prometheus.Labels{"projection": projection}}
}
