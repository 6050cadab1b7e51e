package mist

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// metrics are the sink's. old, full and stopped count the readings that were dropped, by reason:
// older than MaxAge before their turn came, the oldest in a full queue, not sent when Pulse
// stopped.
type metrics struct {
	published, reconnects, failures prometheus.Counter
	old, full, stopped              prometheus.Counter
	connected                       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, queued func() float64) *metrics {
	const prefix = "pulse_projector_mist_"
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
	}
	dropped := metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "dropped_total",
		Help: "Readings that were not published: older than the beat interval, the oldest in a full queue, or left at the stop."},
		[]string{"reason"}))
	metric.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + "queued",
		Help: "Readings that wait to be published."}, queued))
	return &metrics{
		published:  counter("published_total", "Readings handed to TCP on a connection that mist had answered on."),
		reconnects: counter("reconnects_total", "Connections to mist after the first."),
		failures:   counter("failures_total", "Connections to mist that were lost, and attempts that failed."),
		old:        dropped.WithLabelValues("old"),
		full:       dropped.WithLabelValues("full"),
		stopped:    dropped.WithLabelValues("stopped"),
		connected: metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "connected",
			Help: "1 while there is a connection that mist has answered on."})),
	}
}
