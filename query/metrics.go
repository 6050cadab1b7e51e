package query

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// routeOther labels requests that match no route, so that a scan of made-up paths makes no new series.
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
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pulse_query_requests_total", Help: "HTTP requests answered, by route, method and status code.",
		}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pulse_query_request_seconds", Help: "Time from the request's header to the end of the answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_query_panics_total", Help: "Requests whose handler panicked and that were answered with 500.",
		}),
		unauthorized: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pulse_query_unauthorized_total", Help: "Requests refused for a missing or wrong token.",
		}),
		influxErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pulse_query_influx_errors_total", Help: "Questions that InfluxDB did not answer, by why: unavailable, timeout, busy.",
		}, []string{"why"}),
		history: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_query_history_queries", Help: "Queries to InfluxDB under way.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pulse_query_connections", Help: "Open connections to the API.",
		}),
	}
	m.madeWay = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pulse_query_connections_closed_idle_total", Help: "Connections without a request at work that were closed for others, because all places were taken.",
	})
	m.streams = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pulse_query_streams", Help: "Streams of live readings under way.",
	})
	m.guesses = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pulse_query_guesses_refused_total", Help: "Requests refused because their address gave too many wrong ones before, by what: token, ticket.",
	}, []string{"of"})
	for _, of := range []string{"token", ticketName} {
		m.guesses.WithLabelValues(of)
	}
	m.stuck = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "pulse_query_streams_stuck_total", Help: "Streams ended because the client did not read for ten seconds.",
	})
	for _, why := range []string{whyUnavailable, whyTimeout, whyBusy} {
		m.influxErrors.WithLabelValues(why)
	}
	r.MustRegister(m.requests, m.seconds, m.panics, m.unauthorized, m.influxErrors, m.history, m.connections, m.streams, m.stuck, m.guesses, m.madeWay)
	return m
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
