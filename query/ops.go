package query

import (
	"context"
	"net/http"
	"time"
)

func (s *Server) ping(w http.ResponseWriter, _ *http.Request, _ params) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("pong"))
	return nil
}

func (s *Server) prometheus(w http.ResponseWriter, r *http.Request, _ params) error {
	s.o.Metrics.ServeHTTP(w, r)
	return nil
}

// The answer of /status.
type (
	statusAnswer struct {
		State         string             `json:"state"` // as /readyz
		Reasons       []string           `json:"reasons"`
		Version       string             `json:"version"`
		UptimeSeconds float64            `json:"uptime_seconds"`
		Journal       journalAnswer      `json:"journal"`
		Projections   []projectionAnswer `json:"projections"`
		Influx        influxAnswer       `json:"influx"`
		Relays        relayCounts        `json:"relays"`
	}
	journalAnswer struct {
		FirstSequence    uint64    `json:"first_sequence"`
		LastSequence     uint64    `json:"last_sequence"`
		FirstTime        time.Time `json:"first_time,omitzero"`
		LastTime         time.Time `json:"last_time,omitzero"`
		Messages         uint64    `json:"messages"`
		Bytes            int64     `json:"bytes"`
		MaxBytes         int64     `json:"max_bytes"`
		RetentionSeconds float64   `json:"retention_seconds"`
		Error            string    `json:"error,omitempty"`
	}
	projectionAnswer struct {
		Name       string  `json:"name"`
		State      string  `json:"state"`
		Failing    bool    `json:"failing"`
		Position   uint64  `json:"position"`
		Applied    uint64  `json:"applied"`
		Lag        uint64  `json:"lag"`
		LagSeconds float64 `json:"lag_seconds"`
		// SecondsToLoss is how long until the journal drops what this projection has not read, if it goes
		// on like this; null when it has read everything.
		SecondsToLoss *float64 `json:"seconds_to_loss"`
		Gaps          uint64   `json:"gaps"`
		LastError     string   `json:"last_error,omitempty"`
	}
	influxAnswer struct {
		Reachable bool   `json:"reachable"`
		Version   string `json:"version,omitempty"`
		Error     string `json:"error,omitempty"`
	}
	relayCounts struct {
		Connected    int `json:"connected"`
		Disconnected int `json:"disconnected"`
		Collectors   int `json:"collectors"`
	}
)

// status shows everything at once; nothing that is broken makes it fail.
func (s *Server) status(w http.ResponseWriter, r *http.Request, _ params) error {
	ready := s.readiness()
	answer := statusAnswer{
		State: ready.Status, Reasons: ready.Reasons,
		Version:       s.o.Version,
		UptimeSeconds: s.o.Now().Sub(s.started).Truncate(time.Second).Seconds(),
		Projections:   []projectionAnswer{},
	}
	state, err := s.o.Journal.State(r.Context())
	answer.Journal = journalAnswer{
		FirstSequence: state.FirstSeq, LastSequence: state.LastSeq,
		FirstTime: utcSeconds(state.FirstTime), LastTime: utcSeconds(state.LastTime),
		Messages: state.Messages, Bytes: state.Bytes, MaxBytes: state.MaxBytes,
		RetentionSeconds: state.Retention.Seconds(),
	}
	if err != nil {
		answer.Journal.Error = err.Error()
	} else if err := s.o.Journal.Healthy(); err != nil {
		answer.Journal.Error = err.Error()
	}
	for _, p := range s.o.Projections.Projections() {
		answer.Projections = append(answer.Projections, projectionAnswer{
			Name: p.Name, State: p.State, Failing: p.Failing, Position: p.Position, Applied: p.Applied,
			Lag: p.Lag, LagSeconds: p.LagSeconds, SecondsToLoss: secondsToLoss(state, p),
			Gaps: p.Gaps, LastError: p.LastError,
		})
	}
	ctx, cancel := context.WithTimeout(r.Context(), pingTimeout)
	defer cancel()
	version, err := s.o.Influx.Ping(ctx)
	answer.Influx = influxAnswer{Reachable: err == nil, Version: version}
	if err != nil {
		answer.Influx.Error = err.Error()
	}
	for _, relay := range s.o.Relays.Relays() {
		if relay.Connected {
			answer.Relays.Connected++
		} else {
			answer.Relays.Disconnected++
		}
		answer.Relays.Collectors += len(relay.Collectors)
	}
	s.writeIndented(w, http.StatusOK, answer)
	return nil
}

// secondsToLoss estimates when the oldest event that p has not applied falls off the journal: by age, or by
// size at the rate at which the journal was written so far. nil: never, or nothing is waiting.
func secondsToLoss(j JournalState, p Projection) *float64 {
	if p.Lag == 0 {
		return nil
	}
	horizon := -1.0 // seconds that an event stays
	if j.Retention > 0 {
		horizon = j.Retention.Seconds()
	}
	if span := j.LastTime.Sub(j.FirstTime).Seconds(); j.MaxBytes > 0 && j.Bytes > 0 && span > 0 {
		if bySize := span * float64(j.MaxBytes) / float64(j.Bytes); horizon < 0 || bySize < horizon {
			horizon = bySize
		}
	}
	if horizon < 0 {
		return nil
	}
	left := max(0, horizon-p.LagSeconds)
	return &left
}
