package ingest

import "github.com/prometheus/client_golang/prometheus"

// Why a reading was not taken, as the metric's label.
const (
	rejectNoValue          = "no_value"
	rejectNotNumber        = "not_number"
	rejectNotFinite        = "not_finite"
	rejectBadName          = "bad_name"
	rejectUnknownCollector = "unknown_collector"
	rejectDuplicate        = "duplicate"
	rejectSeriesLimit      = "series_limit"
	rejectTooOld           = "too_old"
)

// Why a connection was refused before it became a relay, as the metric's label.
const (
	refusedUnidentified  = "unidentified_limit"
	refusedRelays        = "relay_limit"
	refusedTimeout       = "id_timeout"
	refusedNotID         = "not_identified"
	refusedMissingID     = "missing_id"
	refusedBadID         = "bad_id"
	refusedToken         = "wrong_token"
	refusedNoToken       = "missing_token"
	refusedGuesses       = "guesses"
	refusedTLS           = "tls"
	refusedLine          = "line_too_long"
	refusedDisconnection = "gone"
)

// Why a relay's connection ended, as the metric's label and in the journal.
const (
	endClosed   = "closed"        // it said close
	endLost     = "lost"          // the connection ended without a close
	endSilent   = "silent"        // nothing read for two beats
	endStuck    = "stuck"         // it did not take what was written to it
	endLine     = "line_too_long" // a line without an end
	endReplaced = "replaced"      // another connection came with the same id
	endStopped  = "stopped"       // the server stopped
	endJournal  = "journal"       // the journal did not say whether it has a record of the relay's spool
)

// What a relay was refused without being disconnected, as the metric's label.
const (
	deniedCollectors = "collectors"
	deniedSeries     = "series"
	deniedName       = "bad_add"
)

// metrics are the server's numbers. All their names begin with pulse_ingest_. They are registered
// as one collector.
type metrics struct {
	connected, known, unidentified prometheus.Gauge
	accepted, acceptErrors         prometheus.Counter
	refused, ended, denied         *prometheus.CounterVec
	replaced                       prometheus.Counter
	polls, skipped, unanswered     prometheus.Counter
	latency                        prometheus.Histogram
	readings, past, lost           prometheus.Counter
	spoolDropped, spoolWaiting     prometheus.Gauge
	rejected                       *prometheus.CounterVec
	clockBack                      prometheus.Counter
	ignored                        prometheus.Counter
	eventsLost, registryErrors     prometheus.Counter
	dropped, forgotten             prometheus.Counter

	all []prometheus.Collector
}

// Describe describes all metrics.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
}

// Collect collects all metrics.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

func (m *metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help})
	m.all = append(m.all, c)
	return c
}

func (m *metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help})
	m.all = append(m.all, g)
	return g
}

// reasons returns a counter for each reason. All exist from the start, so that rate() sees the
// first increment.
func (m *metrics) reasons(name, help string, reasons ...string) *prometheus.CounterVec {
	opts := prometheus.CounterOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help}
	c := prometheus.NewCounterVec(opts, []string{"reason"})
	for _, r := range reasons {
		c.WithLabelValues(r)
	}
	m.all = append(m.all, c)
	return c
}

func newMetrics() *metrics {
	m := new(metrics)
	m.connected = m.gauge("relays_connected", "Relays that are connected and identified.")
	m.known = m.gauge("relays_known", "Relays in the registry, connected or not.")
	m.unidentified = m.gauge("connections_unidentified", "Connections that have not said their id yet.")
	m.accepted = m.counter("connections_accepted_total", "Connections accepted, refused ones included.")
	m.acceptErrors = m.counter("accept_errors_total", "Failed accepts; each is followed by a back-off.")
	m.refused = m.reasons("connections_refused_total",
		"Connections that were closed before they became a relay, by reason.",
		refusedUnidentified, refusedRelays, refusedTimeout, refusedNotID, refusedMissingID, refusedBadID, refusedToken,
		refusedNoToken, refusedGuesses, refusedTLS, refusedLine, refusedDisconnection)
	m.ended = m.reasons("disconnections_total", "Relay connections that ended, by reason.",
		endClosed, endLost, endSilent, endStuck, endLine, endReplaced, endStopped, endJournal)
	m.denied = m.reasons("requests_refused_total",
		"Adds and stats that a relay was refused while it stayed connected, by reason.",
		deniedCollectors, deniedSeries, deniedName)
	m.replaced = m.counter("relays_replaced_total",
		"Connections that were closed because a newer one came with the same id.")
	m.polls = m.counter("polls_total", "Polls sent.")
	m.skipped = m.counter("polls_skipped_total",
		"Polls not sent because the answer to the one before might still be under way.")
	m.unanswered = m.counter("polls_unanswered_total", "Polls without an answer before the next one was sent.")
	m.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "pulse", Subsystem: "ingest", Name: "poll_answer_seconds",
		Help:    "Time from a poll to the first line of its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
	m.all = append(m.all, m.latency)
	m.readings = m.counter("readings_total", "Readings that the journal took.")
	m.past = m.counter("past_readings_total", "Readings that the journal took from relays' spools: those of times without a poll.")
	m.spoolWaiting = m.gauge("spool_records_waiting", "Records that wait in the spools of connected relays, as they said last.")
	m.spoolDropped = m.gauge("spool_readings_dropped", "Readings that relays ever dropped because their spools were full, as those said that were connected since the start.")
	m.lost = m.counter("readings_lost_total", "Good readings that the journal did not take.")
	m.rejected = m.reasons("readings_rejected_total", "Readings that were not taken, by reason.",
		rejectNoValue, rejectNotNumber, rejectNotFinite, rejectBadName, rejectUnknownCollector,
		rejectDuplicate, rejectSeriesLimit, rejectTooOld)
	m.clockBack = m.counter("clock_steps_back_total",
		"Events dated before their relay's last one because the clock was set back by more than a minute.")
	m.ignored = m.counter("commands_ignored_total",
		"Lines whose command is unknown or has no meaning from a relay.")
	m.eventsLost = m.counter("relay_events_lost_total",
		"Relay events (connected, added...) that the journal did not take.")
	m.registryErrors = m.counter("registry_write_errors_total",
		"Failed writes of registrations to the state file; they are tried again.")
	m.dropped = m.counter("collectors_dropped_total",
		"Collectors dropped because their relay came back without adding them again.")
	m.forgotten = m.counter("relays_forgotten_total",
		"Relays that left the registry: not connected for too long, too many of these, or forgotten by request.")
	return m
}
