package live

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a stream was ended by the hub: the values of the label `reason`.
const (
	reasonSlow       = "slow"       // what it had to send next was dropped from the ring
	reasonUnreadable = "unreadable" // the journal could not be read for it
)

type hubMetrics struct {
	sent, resumed, refused, gaps, leftOut prometheus.Counter
	slow, unreadable                      prometheus.Counter // dropped, by reason
	clients, readers                      prometheus.Gauge
}

// newHubMetrics registers the metrics of a hub. A second one cannot be on the same registry.
func newHubMetrics(reg prometheus.Registerer, size func() (records, bytes int)) (*hubMetrics, error) {
	const namespace, subsystem = "pulse", "projector_sse"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem,
		Name: "dropped_total", Help: "Streams that were ended because the client was too slow, or the journal could not be read for it."}, []string{"reason"})
	m := &hubMetrics{
		sent:       counter("sent_total", "Messages written to streams: events with readings that matched."),
		resumed:    counter("resumed_total", "Streams that began behind a given record."),
		refused:    counter("refused_total", "Streams refused because there were too many."),
		gaps:       counter("gaps_total", "Rows of missing records that streams were told of."),
		leftOut:    counter("left_out_total", "Readings left out of a message because it would have been too large."),
		slow:       dropped.WithLabelValues(reasonSlow),
		unreadable: dropped.WithLabelValues(reasonUnreadable),
		clients:    prometheus.NewGauge(gauge("clients", "Streams that are open.")),
		readers:    prometheus.NewGauge(gauge("readers", "Streams that read the journal.")),
	}
	records := prometheus.NewGaugeFunc(gauge("ring_records", "Events in the ring."), func() float64 { n, _ := size(); return float64(n) })
	bytes := prometheus.NewGaugeFunc(gauge("ring_bytes", "Bytes of memory that the ring holds."), func() float64 { _, n := size(); return float64(n) })
	var errs []error
	for _, c := range []prometheus.Collector{m.sent, m.resumed, m.refused, m.gaps, m.leftOut, dropped, m.clients, m.readers, records, bytes} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
