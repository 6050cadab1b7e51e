package outside

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// metrics are named as the journal's.
type metrics struct {
	refused                          *prometheus.CounterVec
	slow, liveDropped, copiesDropped prometheus.Counter
}

// reasons are the reasons for which clients are refused something.
var reasons = []string{"password", "guesses", "flood", "connections", "tls", "permission", "payload", "subscriptions",
	"protocol", "reply", "request", "busy"}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return metric.Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_journal_" + name, Help: help}))
	}
	m := &metrics{
		refused: metric.Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_journal_outside_refused_total",
			Help: "What outside clients were refused: a connection (password, tls, connections, protocol) or something they asked for.",
		}, []string{"reason"})),
		slow:          counter("outside_slow_consumers_total", "Connections that were cut off because they did not take what they had asked for."),
		liveDropped:   counter("live_dropped_total", "Readings that somebody listened to and that could not be published."),
		copiesDropped: counter("outside_copies_dropped_total", "Events that plain subscriptions of outside clients did not get, because too many waited to be copied."),
	}
	for _, reason := range reasons {
		m.refused.WithLabelValues(reason)
	}
	return m
}

// gauges adds the gauges of clients that are let in.
func (m *metrics) gauges(reg prometheus.Registerer, connections, consumers func() float64) {
	metric.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pulse_journal_outside_connections", Help: "Outside clients that are connected."}, connections))
	metric.Register(reg, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pulse_journal_outside_consumers", Help: "Consumers that outside clients have on the stream."}, consumers))
}

// connections counts the clients that are connected.
func (c *Clients) connections() float64 {
	if r := c.current(); r != nil {
		return float64(max(r.account.NumLocalConnections()-1, 0)) // one is the filter's
	}
	return 0
}

// consumers counts the consumers of clients.
func (c *Clients) consumers() float64 {
	r := c.current()
	if r == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	defer cancel()
	list, err := listConsumers(ctx, r.JetStream)
	if err != nil {
		return 0
	}
	return float64(len(list))
}
