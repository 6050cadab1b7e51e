package ingest

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// rejection says why a reading was not taken.
type rejection uint8

const (
	rejectNoValue rejection = iota
	rejectNotNumber
	rejectNotFinite
	rejectBadName
	rejectUnknownCollector
	rejectDuplicate
	rejectSeriesLimit
	rejections
)

func (r rejection) String() string {
	return [rejections]string{"no_value", "not_number", "not_finite", "bad_name", "unknown_collector", "duplicate", "series_limit"}[r]
}

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
)

// What a relay was refused without being disconnected, as the metric's label.
const (
	deniedCollectors = "collectors"
	deniedSeries     = "series"
	deniedName       = "bad_add"
)

// metrics are the server's numbers. All names begin with pulse_ingest_.
type metrics struct {
	connected, known, unidentified prometheus.Gauge
	accepted, acceptErrors         prometheus.Counter
	refused, ended, denied         *prometheus.CounterVec
	replaced                       prometheus.Counter
	polls, skipped, unanswered     prometheus.Counter
	latency                        prometheus.Histogram
	readings, lost                 prometheus.Counter
	rejected                       [rejections]prometheus.Counter
	clockBack                      prometheus.Counter
	ignored                        prometheus.Counter
	eventsLost, registryErrors     prometheus.Counter
	dropped, forgotten             prometheus.Counter

	all []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help})
		all = append(all, c)
		return c
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v) // so that every series exists from the start and rate() sees the first increment
		}
		all = append(all, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "pulse", Subsystem: "ingest", Name: name, Help: help})
		all = append(all, g)
		return g
	}
	reasons := make([]string, rejections)
	for r := range rejections {
		reasons[r] = r.String()
	}
	rejected := vec("readings_rejected_total", "Readings that were not taken, by reason.", "reason", reasons...)
	m := &metrics{
		connected:    gauge("relays_connected", "Relays that are connected and identified."),
		known:        gauge("relays_known", "Relays in the registry, connected or not."),
		unidentified: gauge("connections_unidentified", "Connections that have not said their id yet."),
		accepted:     counter("connections_accepted_total", "Connections accepted, refused ones included."),
		acceptErrors: counter("accept_errors_total", "Failed accepts; each is followed by a back-off."),
		refused: vec("connections_refused_total", "Connections that were closed before they became a relay, by reason.", "reason",
			refusedUnidentified, refusedRelays, refusedTimeout, refusedNotID, refusedMissingID, refusedBadID, refusedToken, refusedNoToken, refusedGuesses, refusedTLS, refusedLine, refusedDisconnection),
		ended: vec("disconnections_total", "Relay connections that ended, by reason.", "reason",
			endClosed, endLost, endSilent, endStuck, endLine, endReplaced, endStopped),
		denied: vec("requests_refused_total", "Adds and stats that a relay was refused while it stayed connected, by reason.", "reason",
			deniedCollectors, deniedSeries, deniedName),
		replaced:   counter("relays_replaced_total", "Connections that were closed because a newer one came with the same id."),
		polls:      counter("polls_total", "Polls sent."),
		skipped:    counter("polls_skipped_total", "Polls not sent because the answer to the one before might still be under way."),
		unanswered: counter("polls_unanswered_total", "Polls without an answer before the next one was sent."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "pulse", Subsystem: "ingest", Name: "poll_answer_seconds",
			Help: "Time from a poll to the first line of its answer.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		readings:       counter("readings_total", "Readings that the journal took."),
		lost:           counter("readings_lost_total", "Good readings that the journal did not take."),
		clockBack:      counter("clock_steps_back_total", "Events dated before their relay's last one because the clock was set back by more than a minute."),
		ignored:        counter("commands_ignored_total", "Lines whose command is unknown or has no meaning from a relay."),
		eventsLost:     counter("relay_events_lost_total", "Relay events (connected, added...) that the journal did not take."),
		registryErrors: counter("registry_write_errors_total", "Failed writes of registrations to the state file; they are tried again."),
		dropped:        counter("collectors_dropped_total", "Collectors dropped because their relay came back without adding them again."),
		forgotten:      counter("relays_forgotten_total", "Relays that left the registry: not connected for too long, too many of these, or forgotten by request."),
	}
	for r := range rejections {
		m.rejected[r] = rejected.WithLabelValues(r.String())
	}
	for _, c := range append(all, m.latency) {
		if err := reg.Register(c); err != nil {
			m.unregister(reg)
			return nil, &Error{Op: "options", Subject: "Registerer", Err: err}
		}
		m.all = append(m.all, c)
	}
	return m, nil
}

// unregister undoes newMetrics, for a New that fails later on.
func (m *metrics) unregister(reg prometheus.Registerer) {
	for _, c := range m.all {
		reg.Unregister(c)
	}
}

// quiet lets one log line a minute through for each key, and says how many it kept back. The keys are constants.
type quiet struct {
	log *slog.Logger
	mu  sync.Mutex // guards said
	// said is by key: when the last line was logged and how many were kept back since.
	said map[string]*struct {
		at      time.Time
		skipped int
	}
}

func newQuiet(log *slog.Logger) *quiet {
	return &quiet{log: log, said: make(map[string]*struct {
		at      time.Time
		skipped int
	})}
}

func (q *quiet) warn(key, msg string, args ...any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.said[key]
	now := time.Now()
	switch {
	case s == nil:
		s = &struct {
			at      time.Time
			skipped int
		}{}
		q.said[key] = s
	case now.Sub(s.at) < time.Minute:
		s.skipped++
		return
	}
	if s.skipped > 0 {
		args = append(args, "repeated", s.skipped)
	}
	s.at, s.skipped = now, 0
	q.log.Warn(msg, args...)
}
