package query

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/metric"
)

// routeOther labels requests that match no route, so that a scan of made-up paths makes no new
// series.
const routeOther = "other"

type metrics struct {
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	panics       prometheus.Counter
	unauthorized prometheus.Counter
	guesses      *prometheus.CounterVec
	influxErrors *prometheus.CounterVec
	history      prometheus.Gauge
	connections  prometheus.Gauge
	madeWay      prometheus.Counter
	streams      prometheus.Gauge
	stuck        prometheus.Counter
}

// Why a question to InfluxDB had no answer, as the label "why".
const (
	whyUnavailable = "unavailable"
	whyTimeout     = "timeout"
	whyBusy        = "busy"
)

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: counters(r, "requests_total", "HTTP requests answered, by route, method and status code.", "route", "method", "code"),
		seconds: metric.Register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pulse_query_request_seconds", Help: "Time from the request's header to the end of the answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route"})),
		panics:       counter(r, "panics_total", "Requests whose handler panicked and that were answered with 500."),
		unauthorized: counter(r, "unauthorized_total", "Requests refused for a missing or wrong token."),
		guesses: counters(r, "guesses_refused_total", "Requests refused because their address gave too many wrong ones before, "+
			"by what: token, ticket.", "of"),
		influxErrors: counters(r, "influx_errors_total", "Questions that InfluxDB did not answer, by why: unavailable, timeout, busy.", "why"),
		history:      gauge(r, "history_queries", "Queries to InfluxDB under way."),
		connections:  gauge(r, "connections", "Open connections to the API."),
		madeWay: counter(r, "connections_closed_idle_total", "Connections without a request at work that were closed for others, "+
			"because all places were taken."),
		streams: gauge(r, "streams", "Streams of live readings under way."),
		stuck:   counter(r, "streams_stuck_total", "Streams ended because the client did not read for ten seconds."),
	}
	for _, of := range []string{"token", ticketName} {
		m.guesses.WithLabelValues(of)
	}
	for _, why := range []string{whyUnavailable, whyTimeout, whyBusy} {
		m.influxErrors.WithLabelValues(why)
	}
	return m
}

func counter(r prometheus.Registerer, name, help string) prometheus.Counter {
	return metric.Register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: "pulse_query_" + name, Help: help}))
}

func counters(r prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	return metric.Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pulse_query_" + name, Help: help}, labels))
}

func gauge(r prometheus.Registerer, name, help string) prometheus.Gauge {
	return metric.Register(r, prometheus.NewGauge(prometheus.GaugeOpts{Name: "pulse_query_" + name, Help: help}))
}

func (m *metrics) observe(route, method string, code int, took time.Duration) {
	switch method { // a client may send any word as the method
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}
