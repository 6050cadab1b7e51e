package kapa

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

type evaluatorMetrics struct {
	evaluations, changes, coalesced, late, refused prometheus.Counter
	firing, groups                                 prometheus.Gauge
}

func newEvaluatorMetrics(r prometheus.Registerer) evaluatorMetrics {
	return evaluatorMetrics{
		evaluations: counter(r, "evaluations_total", "Evaluations of an alert."),
		changes:     counter(r, "changes_total", "Changes of the level of an alert, or of a group of one."),
		coalesced:   counter(r, "coalesced_changes_total", "Changes of a level that were old when found, and not posted one by one."),
		late:        counter(r, "seen_overflows_total", "Readings of collectors beyond those that a deadman keeps."),
		refused:     counter(r, "group_overflows_total", "Readings of groups beyond those that alerts watch."),
		firing:      gauge(r, "firing_alerts", "Alerts that are not OK."),
		groups:      gauge(r, "groups", "Groups of the alerts that have some."),
	}
}

type delivererMetrics struct{ delivered, failures, dropped prometheus.Counter }

func newDelivererMetrics(r prometheus.Registerer) delivererMetrics {
	return delivererMetrics{
		delivered: counter(r, "delivered_posts_total", "Posts that were taken."),
		failures:  counter(r, "delivery_failures_total", "Attempts to post that failed."),
		dropped:   counter(r, "dropped_posts_total", "Posts given up: too old, refused, or too many waiting."),
	}
}

type kapacitorMetrics struct {
	passes, failures prometheus.Counter
	pending          prometheus.Gauge
}

func newKapacitorMetrics(r prometheus.Registerer) kapacitorMetrics {
	return kapacitorMetrics{
		passes:   counter(r, "kapacitor_passes_total", "Times that the tasks in Kapacitor were compared with the alerts."),
		failures: counter(r, "kapacitor_failures_total", "Times that this failed, for all alerts or for one."),
		pending:  gauge(r, "kapacitor_pending_alerts", "Alerts that do not run in Kapacitor."),
	}
}

func counter(r prometheus.Registerer, name, help string) prometheus.Counter {
	return metric.Register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_kapa_" + name, Help: help}))
}

func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	return metric.Register(r, prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_kapa_" + name, Help: help}))
}
