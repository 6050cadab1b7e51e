package projector

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
	"github.com/nanopack/pulse/journal"
)

// metrics are a runner's own; the projection's name is a constant label, so that runners share a registry.
type metrics struct {
	records, batches, failures, rejected, gaps, lost, setBacks, saves, stateFailures, jumps prometheus.Counter
	position, lag, lagSeconds, backlog, toLoss                                              prometheus.Gauge
}

// newMetrics makes the metrics of a runner. Only the one that takes the projection through the journal tells where it
// is; the counters of the others (ranges) add to its own.
func newMetrics(reg prometheus.Registerer, projection string, gauges bool) *metrics {
	labels := prometheus.Labels{"projection": projection}
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "pulse", Subsystem: "projector", Name: name, Help: help, ConstLabels: labels}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "pulse", Subsystem: "projector", Name: name, Help: help, ConstLabels: labels})
		if !gauges {
			return g
		}
		return metric.Register(reg, g)
	}
	m := &metrics{
		records:       counter("records_total", "Journal records applied."),
		batches:       counter("batches_total", "Batches applied."),
		failures:      counter("failures_total", "Temporary failures; each was followed by a back-off and another try."),
		rejected:      counter("rejected_records_total", "Records that could not be read or applied and were left behind."),
		gaps:          counter("gaps_total", "Gaps met in the journal."),
		lost:          counter("lost_records_total", "Records missing in those gaps."),
		setBacks:      counter("set_back_total", "Times that the position was beyond the journal's end and was set back to it."),
		saves:         counter("position_saves_total", "Positions saved."),
		stateFailures: counter("state_write_failures_total", "Positions or rejects that could not be saved in pulse.db."),
		jumps:         counter("jumps_total", "Times that the projection went on at the journal's end and left what lies behind to be filled in."),
		position:      gauge("position", "Sequence number up to which no record is needed again."),
		lag:           gauge("lag_records", "Records in the journal that are not applied yet."),
		lagSeconds:    gauge("lag_seconds", "Age of the oldest of them, about."),
		backlog:       gauge("backlog_records", "Records that are still to be filled in behind."),
		toLoss:        gauge("seconds_to_loss", "When the journal drops the first record that is not applied; +Inf if none waits."),
	}
	m.toLoss.Set(math.Inf(1))
	return m
}

// gap counts records that are missing.
func (m *metrics) gap(g *journal.GapError) {
	m.gaps.Inc()
	m.lost.Add(float64(g.Missing()))
}
