package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events, readings, bytes, batches prometheus.Counter
	lostEvents, lostReadings         *prometheus.CounterVec
	gaps, gapEvents                  *prometheus.CounterVec
	restarts, undecodable            prometheus.Counter
	read                             *prometheus.CounterVec
	readTail, readServer             prometheus.Counter // of read
	batchEvents, commit, fsync       prometheus.Histogram
	lastSeq, writable                prometheus.Gauge

	reg  prometheus.Registerer
	mine []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_journal_" + name, Help: help})
	}
	vector := func(name, label, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_journal_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_journal_" + name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pulse_journal_" + name, Help: help, Buckets: buckets})
	}
	latency := prometheus.ExponentialBuckets(100e-6, 2, 16) // 0.1 ms to 3.3 s
	m := &metrics{
		events:       counter("appended_events_total", "Events appended and acknowledged."),
		readings:     counter("appended_readings_total", "Readings in appended events."),
		bytes:        counter("appended_bytes_total", "Bytes of appended events, as JSON."),
		batches:      counter("batches_total", "Batches written; events of one batch share an fsync."),
		lostEvents:   vector("lost_events_total", "reason", "Events that were offered and not stored."),
		lostReadings: vector("lost_readings_total", "reason", "Readings in events that were offered and not stored."),
		gaps:         vector("gaps_total", "reason", "Gaps found by readers and at start."),
		gapEvents:    vector("gap_events_total", "reason", "Sequence numbers missing in these gaps."),
		restarts:     counter("restarts_total", "Restarts of the embedded server after a write error."),
		undecodable:  counter("undecodable_total", "Stored messages that a reader could not decode."),
		read:         vector("read_events_total", "from", "Events that readers in the process got: from the tail in memory, or from the server."),
		batchEvents:  histogram("batch_events", "Events in a batch.", prometheus.ExponentialBuckets(1, 2, 11)),
		commit:       histogram("commit_seconds", "Time to write a batch, fsync included.", latency),
		fsync:        histogram("fsync_seconds", "Time of the fsync of a batch.", latency),
		lastSeq:      gauge("last_sequence", "Sequence number of the newest durable event."),
		writable:     gauge("writable", "1 while events can be appended, 0 while they are lost."),
		reg:          reg,
	}
	m.mine = []prometheus.Collector{m.events, m.readings, m.bytes, m.batches, m.lostEvents, m.lostReadings, m.gaps, m.gapEvents,
		m.restarts, m.undecodable, m.read, m.batchEvents, m.commit, m.fsync, m.lastSeq, m.writable}
	for i, c := range m.mine {
		if err := reg.Register(c); err != nil {
			for _, c := range m.mine[:i] {
				reg.Unregister(c)
			}
			return nil, fmt.Errorf("journal: registering metrics (one journal a registry): %w", err)
		}
	}
	m.readTail, m.readServer = m.read.WithLabelValues("tail"), m.read.WithLabelValues("server")
	for _, reason := range []string{"disk_full", "unavailable", "unknown"} {
		m.lostEvents.WithLabelValues(reason)
		m.lostReadings.WithLabelValues(reason)
	}
	for _, reason := range []string{"retention", "lost", "rewound"} {
		m.gaps.WithLabelValues(reason)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.mine {
		m.reg.Unregister(c)
	}
}

func (m *metrics) lose(err error, events, readings int) {
	reason := "invalid"
	switch {
	case errors.Is(err, ErrDiskFull):
		reason = "disk_full"
	case errors.Is(err, ErrUnavailable):
		reason = "unavailable"
	case errors.Is(err, ErrUnknown):
		reason = "unknown"
	case errors.Is(err, ErrClosed):
		reason = "closed"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		reason = "canceled"
	}
	m.lostEvents.WithLabelValues(reason).Add(float64(events))
	m.lostReadings.WithLabelValues(reason).Add(float64(readings))
}

func (m *metrics) gap(g *GapError) {
	reason := map[string]string{GapRetention: "retention", GapLost: "lost", GapRewound: "rewound"}[g.Reason]
	m.gaps.WithLabelValues(reason).Inc()
	m.gapEvents.WithLabelValues(reason).Add(float64(g.Missing()))
}
