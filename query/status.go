package query

import (
	"context"
	"net/http"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/link"
	"github.com/nanopack/pulse/projector"
)

type (
	// Status is the answer of /status.
	Status struct {
		State         string             `json:"state"` // as /readyz
		Reasons       []string           `json:"reasons"`
		Version       string             `json:"version"`
		UptimeSeconds float64            `json:"uptime_seconds"`
		Journal       StatusJournal      `json:"journal"`
		Projections   []projector.Status `json:"projections"`
		Influx        StatusInflux       `json:"influx"`
		StateFile     []StateDamage      `json:"state_file_damages,omitempty"`
		Relays        StatusRelays       `json:"relays"`
		Uplink        *link.UplinkStatus `json:"uplink,omitempty"` // of an edge
		Edges         *StatusEdges       `json:"edges,omitempty"`  // of a hub
	}
	// StatusJournal is what the journal holds. Error is why the journal cannot be written, or cannot
	// answer.
	StatusJournal struct {
		FirstSequence    uint64          `json:"first_sequence"`
		LastSequence     uint64          `json:"last_sequence"`
		FirstTime        time.Time       `json:"first_time,omitzero"`
		LastTime         time.Time       `json:"last_time,omitzero"`
		Messages         uint64          `json:"messages"`
		Bytes            uint64          `json:"bytes"`
		MaxBytes         int64           `json:"max_bytes"`
		RetentionSeconds float64         `json:"retention_seconds"`
		Reach            journal.Reach   `json:"reach,omitzero"` // how far it reaches back at the present rate; left out while that is not known
		Lost             uint64          `json:"lost"`           // events that it held and lost: damage, not retention
		Gaps             []projector.Gap `json:"gaps"`           // where, found since the start: the newest, oldest first
		Error            string          `json:"error,omitempty"`
	}
	// StatusInflux reports whether InfluxDB answers.
	StatusInflux struct {
		Reachable bool   `json:"reachable"`
		Version   string `json:"version,omitempty"`
		Error     string `json:"error,omitempty"`
		// Damages are the files of the embedded InfluxDB that were missing or not as they were written,
		// the oldest first.
		Damages []Damage `json:"damages,omitempty"`
	}
	// Damage is such a file. The points that it held were of Projection (empty: of none), from From to
	// To, both included. Aside is where the file was moved to, below the data dir's influx/. Replay is
	// the replay that writes what the journal holds of the points. From LostFrom to LostTo (excluded)
	// the journal does not hold them any more.
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
	// StateDamage is a value of the state file, pulse.db, that was not as it was written, and what
	// that means. The value was taken out, and is kept in the state file.
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
	// StatusEdges counts a hub's edges that have a link, and those that had one.
	StatusEdges struct {
		Connected int `json:"connected"`
		Silent    int `json:"silent"`
	}
)

// status shows everything at once. Nothing that is broken makes it fail.
func (s *Server) status(w http.ResponseWriter, r *http.Request, _ params) error {
	ready := s.readiness()
	answer := Status{
		State: ready.Status, Reasons: ready.Reasons,
		Version:       s.o.Version,
		UptimeSeconds: s.o.Now().Sub(s.started).Truncate(time.Second).Seconds(),
		Journal:       s.statusJournal(r.Context()),
		Projections:   append([]projector.Status{}, s.o.Projections.Projections()...),
		Influx:        s.statusInflux(r.Context()),
		StateFile:     s.o.StateFile,
	}
	for _, relay := range s.o.Relays.Relays() {
		if relay.Connected {
			answer.Relays.Connected++
		} else {
			answer.Relays.Disconnected++
		}
		answer.Relays.Collectors += len(relay.Collectors)
	}
	if s.o.Uplink != nil {
		uplink := s.o.Uplink.Status()
		uplink.Since, uplink.Gaps = apijson.Time(uplink.Since), shownGaps(uplink.Gaps)
		answer.Uplink = &uplink
	}
	if s.o.Edges != nil {
		answer.Edges = &StatusEdges{}
		for _, e := range s.o.Edges.Edges() {
			switch e.State {
			case link.StateConnected:
				answer.Edges.Connected++
			case link.StateSilent:
				answer.Edges.Silent++
			}
		}
	}
	s.writeIndented(w, http.StatusOK, answer)
	return nil
}

func (s *Server) statusJournal(ctx context.Context) StatusJournal {
	state, err := s.o.Journal.State(ctx)
	if err == nil {
		err = s.o.Journal.Healthy()
	}
	lost := s.o.Journal.Losses()
	j := StatusJournal{
		FirstSequence: state.FirstSeq, LastSequence: state.LastSeq,
		FirstTime: apijson.Time(state.FirstTime), LastTime: apijson.Time(state.LastTime),
		Messages: state.Messages, Bytes: state.Bytes, MaxBytes: state.MaxBytes, RetentionSeconds: state.Retention.Seconds(),
		Reach: state.Reach, Lost: lost.Events, Gaps: []projector.Gap{},
	}
	for _, l := range lost.Ranges {
		j.Gaps = append(j.Gaps, projector.Gap{From: l.From, To: l.To, Count: l.To - l.From + 1, Reason: l.Reason, Time: l.Found})
	}
	if err != nil {
		j.Error = err.Error()
	}
	return j
}

func (s *Server) statusInflux(ctx context.Context) StatusInflux {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	version, err := s.o.Influx.Ping(ctx)
	i := StatusInflux{Reachable: err == nil, Version: version}
	if err != nil {
		i.Error = err.Error()
	}
	if s.o.Damages != nil {
		i.Damages = s.o.Damages()
	}
	return i
}
