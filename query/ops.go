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

type (
	// Status is the answer of /status.
	Status struct {
		State         string        `json:"state"` // as /readyz
		Reasons       []string      `json:"reasons"`
		Version       string        `json:"version"`
		UptimeSeconds float64       `json:"uptime_seconds"`
		Journal       StatusJournal `json:"journal"`
		Projections   []Projection  `json:"projections"`
		Influx        StatusInflux  `json:"influx"`
		StateFile     []StateDamage `json:"state_file_damages,omitempty"`
		Relays        StatusRelays  `json:"relays"`
	}
	// StatusJournal is what the journal holds. Error is why it cannot be written, or looked at.
	StatusJournal struct {
		FirstSequence    uint64    `json:"first_sequence"`
		LastSequence     uint64    `json:"last_sequence"`
		FirstTime        time.Time `json:"first_time,omitzero"`
		LastTime         time.Time `json:"last_time,omitzero"`
		Messages         uint64    `json:"messages"`
		Bytes            int64     `json:"bytes"`
		MaxBytes         int64     `json:"max_bytes"`
		RetentionSeconds float64   `json:"retention_seconds"`
		Lost             uint64    `json:"lost"` // events that it held and lost: damage, not retention
		Gaps             []Gap     `json:"gaps"` // where, found since the start: the newest, oldest first
		Error            string    `json:"error,omitempty"`
	}
	// StatusInflux tells whether InfluxDB answers.
	StatusInflux struct {
		Reachable bool   `json:"reachable"`
		Version   string `json:"version,omitempty"`
		Error     string `json:"error,omitempty"`
		// Damages are the files of the embedded InfluxDB that were missing or not as they were written, the oldest first.
		Damages []Damage `json:"damages,omitempty"`
	}
	// Damage is such a file. From and To, both included, say when the points were that it held, of Projection (empty: of
	// none); Aside where it was moved to, below the data dir's influx/; Replay which replay writes what the journal holds
	// of them; LostFrom and LostTo (excluded) what the journal does not hold any more.
	Damage struct {
		Found      time.Time `json:"found"`
		What       string    `json:"what"`
		Why        string    `json:"why"`
		Aside      string    `json:"aside,omitempty"`
		Projection string    `json:"projection,omitempty"`
		From       time.Time `json:"from,omitzero"`
		To         time.Time `json:"to,omitzero"`
		Replay     string    `json:"replay,omitempty"`
		LostFrom   time.Time `json:"lost_from,omitzero"`
		LostTo     time.Time `json:"lost_to,omitzero"`
	}
	// StateDamage is a value of the state file, pulse.db, that was not as it was written, and what that means. It was taken
	// out, and is kept there.
	StateDamage struct {
		Found  time.Time `json:"found"`
		What   string    `json:"what"`
		Effect string    `json:"effect"`
	}
	// StatusRelays counts the registered relays, and the collectors of them all.
	StatusRelays struct {
		Connected    int `json:"connected"`
		Disconnected int `json:"disconnected"`
		Collectors   int `json:"collectors"`
	}
)

// inSeconds returns a copy with whole seconds, never nil.
func inSeconds(gaps []Gap) []Gap {
	list := make([]Gap, len(gaps))
	for i, g := range gaps {
		g.Time = utcSeconds(g.Time)
		list[i] = g
	}
	return list
}

// status shows everything at once; nothing that is broken makes it fail.
func (s *Server) status(w http.ResponseWriter, r *http.Request, _ params) error {
	ready := s.readiness()
	answer := Status{
		State: ready.Status, Reasons: ready.Reasons,
		Version:       s.o.Version,
		UptimeSeconds: s.o.Now().Sub(s.started).Truncate(time.Second).Seconds(),
		Projections:   []Projection{},
	}
	state, err := s.o.Journal.State(r.Context())
	answer.Journal = StatusJournal{
		FirstSequence: state.FirstSeq, LastSequence: state.LastSeq,
		FirstTime: utcSeconds(state.FirstTime), LastTime: utcSeconds(state.LastTime),
		Messages: state.Messages, Bytes: state.Bytes, MaxBytes: state.MaxBytes,
		RetentionSeconds: state.Retention.Seconds(),
		Lost:             state.Lost, Gaps: inSeconds(state.Gaps),
	}
	if err != nil {
		answer.Journal.Error = err.Error()
	} else if err := s.o.Journal.Healthy(); err != nil {
		answer.Journal.Error = err.Error()
	}
	for _, p := range s.o.Projections.Projections() {
		p.Gaps = inSeconds(p.Gaps)
		answer.Projections = append(answer.Projections, p)
	}
	ctx, cancel := context.WithTimeout(r.Context(), pingTimeout)
	defer cancel()
	version, err := s.o.Influx.Ping(ctx)
	answer.Influx = StatusInflux{Reachable: err == nil, Version: version}
	if err != nil {
		answer.Influx.Error = err.Error()
	}
	answer.StateFile = s.o.StateFile
	if s.o.Damages != nil {
		answer.Influx.Damages = s.o.Damages()
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
