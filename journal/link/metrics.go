package link

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// hubMetrics are the hub's. It is the collector of what edges are at the moment.
type hubMetrics struct {
	hub             *Hub
	events, missing *prometheus.CounterVec
	begun, refused  prometheus.Counter

	connected, lacks, silent *prometheus.Desc
}

func newHubMetrics(reg prometheus.Registerer, h *Hub) *hubMetrics {
	m := &hubMetrics{hub: h,
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pulse_hub_events_total", Help: "Events taken from an edge, durable."}, []string{"edge"}),
		missing: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pulse_hub_missing_events_total", Help: "Events of an edge that will never come, because its journal does not have them any more."}, []string{"edge"}),
		begun: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_hub_histories_begun_total", Help: "How often an edge began another history than the hub had."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_hub_refused_total", Help: "Connections of edges that were refused."}),
		connected: prometheus.NewDesc("pulse_hub_edge_connected", "Whether an edge has a link.", []string{"edge"}, nil),
		lacks:     prometheus.NewDesc("pulse_hub_edge_lacks_events", "Events of an edge that the hub does not have yet, as far as it knows.", []string{"edge"}, nil),
		silent:    prometheus.NewDesc("pulse_hub_edge_heard_timestamp_seconds", "When an edge was last heard.", []string{"edge"}, nil),
	}
	reg.MustRegister(m, m.events, m.missing, m.begun, m.refused)
	return m
}

func (m *hubMetrics) unregister(reg prometheus.Registerer) {
	for _, c := range []prometheus.Collector{m, m.events, m.missing, m.begun, m.refused} {
		reg.Unregister(c)
	}
}

// Describe implements prometheus.Collector.
func (m *hubMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.connected
	ch <- m.lacks
	ch <- m.silent
}

// Collect implements prometheus.Collector.
func (m *hubMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, e := range m.hub.Edges() {
		connected := 0.0
		if e.State == StateConnected {
			connected = 1
		}
		ch <- prometheus.MustNewConstMetric(m.connected, prometheus.GaugeValue, connected, e.Name)
		ch <- prometheus.MustNewConstMetric(m.lacks, prometheus.GaugeValue, float64(e.Lacks), e.Name)
		if !e.Heard.IsZero() {
			ch <- prometheus.MustNewConstMetric(m.silent, prometheus.GaugeValue, float64(e.Heard.UnixMilli())/1e3, e.Name)
		}
	}
}

// uplinkMetrics are an edge's.
type uplinkMetrics struct {
	events, missing, connections prometheus.Counter
	connected, lacks             prometheus.Gauge
}

func newUplinkMetrics(reg prometheus.Registerer) *uplinkMetrics {
	m := &uplinkMetrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_uplink_events_total", Help: "Events that the hub confirmed."}),
		missing: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_uplink_missing_events_total", Help: "Events that the hub will never get, because the journal does not have them any more."}),
		connections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_uplink_connections_total", Help: "How often the hub was reached."}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_uplink_connected", Help: "Whether there is a link to the hub."}),
		lacks: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_uplink_lacks_events", Help: "Events of the journal that the hub has not confirmed; NaN until it has said what it has."}),
	}
	m.lacks.Set(math.NaN())
	reg.MustRegister(m.events, m.missing, m.connections, m.connected, m.lacks)
	return m
}
