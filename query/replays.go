package query

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/strictjson"
)

// Replays rebuild ranges of the views from the journal. It may be absent (Options.Replays nil):
// then its routes are too. Its methods are called from several goroutines at once, and read and
// write nothing but local state.
type Replays interface {
	// Create adds a replay; it runs on its own. Errors wrap ErrInvalid where the request is at fault,
	// and say which field, or ErrTooMany.
	Create(ctx context.Context, request ReplayRequest) (Replay, error)
	// List returns those that are waiting, running or ended lately, the newest first. The slice
	// belongs to the caller.
	List() []Replay
	// Get returns one; ErrNotFound (wrapped) when there is none of that id.
	Get(id string) (Replay, error)
	// Cancel ends one and returns what became of it; one that has ended stays as it is. ErrNotFound as
	// with Get.
	Cancel(id string) (Replay, error)
}

// ReplayRequest asks for a replay. The API has seen to it that From is before To and not in the
// future.
type ReplayRequest struct {
	Projections []string  // names, or "all"; empty when the request named none, which is invalid
	From, To    time.Time // From is included, To is not; To zero: now
	DryRun      bool      // count only
}

// Replay is one replay, as the API shows it.
type Replay struct {
	ID          string    `json:"id"`
	Projections []string  `json:"projections"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	DryRun      bool      `json:"dry_run"`
	State       string    `json:"state"` // waiting, running, done, canceled or failed
	Created     time.Time `json:"created"`
	Started     time.Time `json:"started,omitzero"`
	Finished    time.Time `json:"finished,omitzero"`
	Progress    float64   `json:"progress"`     // 0 to 1
	SecondsLeft *float64  `json:"seconds_left"` // null: not known
	// LastError is why it failed, or what holds it up at the moment.
	LastError string       `json:"last_error,omitempty"`
	Parts     []ReplayPart `json:"parts"`
}

// The states of a Replay and of its parts. The last three are final.
const (
	ReplayWaiting  = "waiting"
	ReplayRunning  = "running"
	ReplayDone     = "done"
	ReplayCanceled = "canceled"
	ReplayFailed   = "failed"
)

// Ended tells whether nothing will change any more.
func (r Replay) Ended() bool {
	return r.State == ReplayDone || r.State == ReplayCanceled || r.State == ReplayFailed
}

// ReplayPart is what a Replay did to one projection; of a dry run, what it would have done.
type ReplayPart struct {
	Projection  string   `json:"projection"`
	State       string   `json:"state"`        // as the Replay's
	Events      uint64   `json:"events"`       // gone over
	EventsTotal uint64   `json:"events_total"` // to go over; an estimate until the part is done
	Readings    uint64   `json:"readings"`     // in these events
	Points      uint64   `json:"points"`       // points or rows written
	Expired     uint64   `json:"expired"`      // readings older than the projection keeps
	Refused     uint64   `json:"refused"`      // readings or rows that the sink will never take
	Lost        uint64   `json:"lost"`         // records of the range that the journal has no more
	Notes       []string `json:"notes"`        // for people
}

// answer is r as the API shows it: lists that are never null, times in UTC.
func (r Replay) answer() Replay {
	r.Projections = append([]string{}, r.Projections...)
	r.Parts = append([]ReplayPart{}, r.Parts...)
	for i := range r.Parts {
		r.Parts[i].Notes = append([]string{}, r.Parts[i].Notes...)
	}
	r.From, r.To = r.From.UTC(), r.To.UTC() // exact: a request may repeat them
	r.Created, r.Started, r.Finished = apijson.Time(r.Created), apijson.Time(r.Started), apijson.Time(r.Finished)
	return r
}

func (s *Server) listReplays(w http.ResponseWriter, _ *http.Request, _ params) error {
	answer := []Replay{}
	for _, replay := range s.o.Replays.List() {
		answer = append(answer, replay.answer())
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) addReplay(w http.ResponseWriter, r *http.Request, _ params) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	request, err := parseReplay(body, s.o.Now(), s.o.Location)
	if err != nil {
		return err
	}
	replay, err := s.o.Replays.Create(r.Context(), request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/replay/"+url.PathEscape(replay.ID))
	s.writeJSON(w, http.StatusAccepted, replay.answer())
	return nil
}

func (s *Server) getReplay(w http.ResponseWriter, _ *http.Request, p params) error {
	return s.oneReplay(w, p, s.o.Replays.Get)
}

func (s *Server) cancelReplay(w http.ResponseWriter, _ *http.Request, p params) error {
	return s.oneReplay(w, p, s.o.Replays.Cancel)
}

func (s *Server) oneReplay(w http.ResponseWriter, p params, of func(id string) (Replay, error)) error {
	if err := checkName("the replay", p.get("id")); err != nil {
		return err
	}
	replay, err := of(p.get("id"))
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, replay.answer())
	return nil
}

// parseReplay reads the body of a request: one JSON object, each field once, none of other names. A
// misspelled or doubled field could mean another range than the one that is rebuilt.
func parseReplay(body []byte, now time.Time, loc *time.Location) (ReplayRequest, error) {
	var request ReplayRequest
	var projection, from, to string
	fields := map[string]struct {
		into any
		want string
	}{
		"projection": {&projection, "a text: the name of a projection, or all"},
		"from":       {&from, "a text: " + whenHelp(now, loc)},
		"to":         {&to, "a text: " + whenHelp(now, loc)},
		"dry_run":    {&request.DryRun, "true or false"},
	}
	given, err := strictjson.Fields(body)
	switch {
	case errors.Is(err, strictjson.ErrMore):
		return request, badRequest("the body is more than one JSON object")
	case err != nil:
		return request, &httpError{status: http.StatusBadRequest, err: err,
			text: `the body is not the JSON object expected: use {"projection":"all","from":"6h"}, and to and dry_run if you like`}
	}
	for _, f := range given {
		field, known := fields[f.Name]
		switch {
		case !known:
			return request, badRequest("%q is not a field of a replay: it has projection, from, to and dry_run", shorten(f.Name, 40))
		case f.Again:
			return request, badRequest("%s is given twice: give it once", f.Name)
		}
		if err := json.Unmarshal(f.Value, field.into); err != nil {
			return request, badRequest("%s must be %s", f.Name, field.want)
		}
	}
	if projection != "" {
		if err := checkName("the projection", projection); err != nil {
			return request, err
		}
		request.Projections = []string{projection}
	}
	return request, request.setRange(from, to, now, loc)
}

// setRange reads from and to; those without a zone are in loc.
func (q *ReplayRequest) setRange(from, to string, now time.Time, loc *time.Location) (err error) {
	if from == "" {
		return badRequest("from is missing: %s", whenHelp(now, loc))
	}
	if q.From, _, err = ParseWhen(from, now, loc); err != nil {
		return badRequest("from %q: %v", shorten(from, 40), err)
	}
	end := now
	if to != "" {
		if q.To, _, err = ParseWhen(to, now, loc); err != nil {
			return badRequest("to %q: %v", shorten(to, 40), err)
		}
		end = q.To
	}
	switch {
	case q.From.After(now):
		return badRequest("from is %s, which is in the future: it is now %s", q.From.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !q.From.Before(end):
		return badRequest("from must be before to (from=%s, to=%s)", q.From.Format(time.RFC3339), end.UTC().Format(time.RFC3339))
	}
	return nil
}
