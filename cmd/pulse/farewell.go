package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/relaywire"
)

// newConnectionsRefused counts the connections that were closed so that files are left to open.
func newConnectionsRefused() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pulse_connections_refused_total",
		Help: "Connections closed at once so that the journal and InfluxDB have files left to open, by listener.",
	}, []string{"listener"})
}

// farewells returns what an HTTP client and a relay are told when there is no file left for their
// connection. Where they expect TLS they are told nothing.
func farewells(config *Config) (http, relay string) {
	if config.Insecure {
		http = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\n" +
			"Connection: close\r\nContent-Length: 0\r\n\r\n"
	}
	if !config.RelayTLS {
		relay = string(relaywire.AppendError(nil, "the server has too many open files"))
	}
	return http, relay
}
