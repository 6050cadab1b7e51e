package query

import (
	"net/http"
	"strings"

	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/query/influxquery"
)

// The states of /readyz.
const (
	stateReady       = "ready"
	stateDegraded    = "degraded"
	stateUnavailable = "unavailable"
)

type health struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons"`
}

// ping answers "pong", as in 0.2, and the clients of InfluxDB with what they take for an answer: no
// content.
func (s *Server) ping(w http.ResponseWriter, r *http.Request, _ params) error {
	w.Header().Set("X-Influxdb-Version", influxquery.Version)
	if influxClient(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("pong"))
	return nil
}

// influxClient reports whether a client of InfluxDB asks: the Go client and the influx command by
// their names, others by what they ask InfluxDB for.
func influxClient(r *http.Request) bool {
	return strings.HasPrefix(r.UserAgent(), "InfluxDB") || r.URL.Query().Has("wait_for_leader") ||
		strings.Contains(r.Header.Get("Accept"), "application/x-msgpack")
}

// influxQuery answers as InfluxDB 1.x, its errors too.
func (s *Server) influxQuery(w http.ResponseWriter, r *http.Request, _ params) error {
	s.asked.ServeHTTP(w, r)
	return nil
}

func (s *Server) prometheus(w http.ResponseWriter, r *http.Request, _ params) error {
	s.o.Metrics.ServeHTTP(w, r)
	return nil
}

// healthz is liveness: a process that answers is alive. It checks nothing else, so that no outage
// elsewhere gets Pulse restarted.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ params) error {
	s.writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
	return nil
}

// readyz is readiness: only a server that cannot write the journal is not ready. While a sink is
// down readings are safe and the rest works, so the answer is 200 and "degraded". Nothing outside
// is asked: readyz may be called every second.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request, _ params) error {
	ready := s.readiness()
	status := http.StatusOK
	if ready.Status == stateUnavailable {
		status = http.StatusServiceUnavailable
	}
	s.writeJSON(w, status, ready)
	return nil
}

func (s *Server) readiness() health {
	h := health{Status: stateReady, Reasons: []string{}}
	for _, p := range s.o.Projections.Projections() {
		if p.Failing {
			h.Status = stateDegraded
			// Not the error itself: anybody may ask, and it may hold addresses. /status has it.
			h.Reasons = append(h.Reasons, "projection "+p.Name+" is failing: /status says why")
		}
	}
	// A link that is down may be as usual at an edge. One that the hub refuses needs somebody.
	if s.o.Uplink != nil && s.o.Uplink.Status().State == link.StateRefused {
		h.Status = stateDegraded
		h.Reasons = append(h.Reasons, "the hub refuses this edge: /status says why")
	}
	if err := s.o.Journal.Healthy(); err != nil {
		h.Status = stateUnavailable
		h.Reasons = append([]string{"the journal cannot be written: " + err.Error()}, h.Reasons...)
	}
	return h
}
