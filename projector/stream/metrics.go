package stream

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// metrics are the hub's. slow and unreadable count the subscriptions that the hub has ended, by
// reason.
type metrics struct {
	sent, resumed, refused, gaps, leftOut prometheus.Counter
	slow, unreadable                      prometheus.Counter
	clients, readers                      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, size func() (records, bytes int)) *metrics {
	const prefix = "pulse_projector_sse_"
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return metric.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help}))
	}
	measured := func(name, help string, value func() float64) {
		metric.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value))
	}
	dropped := metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "dropped_total",
		Help: "Streams that were ended because the client was too slow, or the journal could not be read for it."},
		[]string{"reason"}))
	measured("ring_records", "Events in the ring.", func() float64 { n, _ := size(); return float64(n) })
	measured("ring_bytes", "Bytes of memory that the ring holds.", func() float64 { _, n := size(); return float64(n) })
	return &metrics{
		sent:       counter("sent_total", "Messages written to streams: events with readings that matched."),
		resumed:    counter("resumed_total", "Streams that began after a given record."),
		refused:    counter("refused_total", "Streams refused because there were too many."),
		gaps:       counter("gaps_total", "Ranges of missing records that streams were told of."),
		leftOut:    counter("left_out_total", "Readings left out of a message because it would have been too large."),
		slow:       dropped.WithLabelValues("slow"),
		unreadable: dropped.WithLabelValues("unreadable"),
		clients:    gauge("clients", "Streams that are open."),
		readers:    gauge("readers", "Streams that read the journal."),
	}
}
