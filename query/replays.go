package query

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/nanopack/pulse/internal/strictjson"
	"github.com/nanopack/pulse/projector/past"
)

func (s *Server) listReplays(w http.ResponseWriter, _ *http.Request, _ params) error {
	s.writeJSON(w, http.StatusOK, s.o.Replays.List())
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
	if err := s.knownEdge(request.Edge); err != nil {
		return err
	}
	replay, err := s.o.Replays.Create(request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/replay/"+url.PathEscape(replay.ID))
	s.writeJSON(w, http.StatusAccepted, replay)
	return nil
}

func (s *Server) getReplay(w http.ResponseWriter, _ *http.Request, p params) error {
	return s.replay(w, p, s.o.Replays.Get)
}

func (s *Server) cancelReplay(w http.ResponseWriter, _ *http.Request, p params) error {
	return s.replay(w, p, s.o.Replays.Cancel)
}

// replay answers with the replay that the path names.
func (s *Server) replay(w http.ResponseWriter, p params, of func(id string) (past.Job, error)) error {
	if err := checkName("the replay", p.get("id")); err != nil {
		return err
	}
	replay, err := of(p.get("id"))
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, replay)
	return nil
}

// parseReplay reads the body of a request: one JSON object, each field once, none of other names. A
// misspelled or doubled field could mean another range than the one that is rebuilt. Times without a
// zone are in loc.
func parseReplay(body []byte, now time.Time, loc *time.Location) (request past.Request, err error) {
	var projection, from, to string
	fields := map[string]struct {
		into any
		want string
	}{
		"projection": {&projection, "a text: the name of a projection, or all"},
		"from":       {&from, "a text: " + whenHelp(now, loc)},
		"to":         {&to, "a text: " + whenHelp(now, loc)},
		"edge":       {&request.Edge, "a text: the name of an edge"},
		"dry_run":    {&request.DryRun, "true or false"},
	}
	given, err := strictjson.Fields(body)
	switch {
	case errors.Is(err, strictjson.ErrMore):
		return request, badRequest("the body is more than one JSON object")
	case err != nil:
		return request, &httpError{status: http.StatusBadRequest, err: err, text: "the body is not the JSON object expected: " +
			`use {"projection":"all","from":"6h"}, and to, edge and dry_run if you like`}
	}
	for _, f := range given {
		field, known := fields[f.Name]
		switch {
		case !known:
			return request, badRequest("%q is not a field of a replay: it has projection, from, to, edge and dry_run", shorten(f.Name, 40))
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
	if from == "" {
		return request, badRequest("from is missing: %s", whenHelp(now, loc))
	}
	if request.From, _, err = ParseWhen(from, now, loc); err != nil {
		return request, badRequest("from %q: %v", shorten(from, 40), err)
	}
	if to != "" {
		if request.To, _, err = ParseWhen(to, now, loc); err != nil {
			return request, badRequest("to %q: %v", shorten(to, 40), err)
		}
	}
	return request, nil
}
