package live

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a reading was not sent: the values of the label `reason`.
const (
	reasonOld     = "old"     // older than MaxAge before there was a connection, or before its turn came
	reasonFull    = "full"    // the oldest in a full queue
	reasonStopped = "stopped" // not sent when Pulse stopped
)

type metrics struct {
	published, reconnects, failures prometheus.Counter
	old, full, stopped              prometheus.Counter // dropped, by reason
	connected                       prometheus.Gauge
}

// newMetrics registers the metrics of m. A second Mist cannot be on the same registry.
func newMetrics(reg prometheus.Registerer, queued func() float64) (*metrics, error) {
	const namespace, subsystem = "pulse", "projector_mist"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem,
		Name: "dropped_total", Help: "Readings that were not published: older than the beat interval, the oldest in a full queue, or left at the stop."}, []string{"reason"})
	m := &metrics{
		published:  counter("published_total", "Readings handed to TCP on a connection that mist had answered on."),
		reconnects: counter("reconnects_total", "Connections to mist after the first."),
		failures:   counter("failures_total", "Connections to mist that were lost, and attempts that failed."),
		old:        dropped.WithLabelValues(reasonOld),
		full:       dropped.WithLabelValues(reasonFull),
		stopped:    dropped.WithLabelValues(reasonStopped),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem,
			Name: "connected", Help: "1 while there is a connection that mist has answered on."}),
	}
	length := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem,
		Name: "queued", Help: "Readings that wait to be published."}, queued)
	var errs []error
	for _, c := range []prometheus.Collector{m.published, m.reconnects, m.failures, dropped, m.connected, length} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
