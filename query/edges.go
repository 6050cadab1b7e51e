package query

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/internal/strictjson"
	"github.com/nanopack/pulse/journal/link"
)

const (
	// edgeName is the parameter, and the field of a body, that says whose relays are meant.
	edgeName = "edge"
	// askTimeout is how long an edge may take for what is passed on to it.
	askTimeout = 10 * time.Second
	// maxPassedOn bounds a question and an answer, so that they fit into a frame of the link.
	maxPassedOn = 3 << 19
)

type edgesAnswer struct {
	Edges   []link.Edge        `json:"edges"`
	Refused []link.UnknownEdge `json:"refused"`
}

// edges lists the edges by name, and the newest connections under names that no edge has.
func (s *Server) edges(w http.ResponseWriter, _ *http.Request, _ params) error {
	answer := edgesAnswer{Edges: []link.Edge{}, Refused: []link.UnknownEdge{}}
	for _, e := range s.o.Edges.Edges() {
		e.Since, e.Heard = apijson.Time(e.Since), apijson.Time(e.Heard)
		e.Gaps, e.Begun = shownGaps(e.Gaps), slices.Clone(e.Begun)
		for i := range e.Begun {
			e.Begun[i].Time = apijson.Time(e.Begun[i].Time)
		}
		if e.Refused != nil {
			refusal := *e.Refused
			refusal.Time = apijson.Time(refusal.Time)
			e.Refused = &refusal
		}
		answer.Edges = append(answer.Edges, e)
	}
	for _, u := range s.o.Edges.RefusedNames() {
		u.Time = apijson.Time(u.Time)
		answer.Refused = append(answer.Refused, u)
	}
	slices.SortFunc(answer.Edges, func(a, b link.Edge) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(answer.Refused, func(a, b link.UnknownEdge) int { return b.Time.Compare(a.Time) })
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

// shownGaps is a copy with times as the API shows them.
func shownGaps(gaps []link.Gap) []link.Gap {
	gaps = slices.Clone(gaps)
	for i := range gaps {
		gaps[i].Time = apijson.Time(gaps[i].Time)
	}
	return gaps
}

// edgeOf returns the edge that a request's parameters name, "" for this Pulse itself. A hub refuses
// other parameters, because a misspelled one would change the hub's own relays.
func (s *Server) edgeOf(r *http.Request) (string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", badRequest("the query string is malformed: %v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		switch {
		case key == edgeName && len(values[key]) > 1:
			return "", badRequest("%s is given %d times: give it once", key, len(values[key]))
		case key != edgeName && key != tokenName && s.o.Edges != nil:
			return "", badRequest("%q is not a parameter here: use edge or none", shorten(key, 40))
		}
	}
	edge := values.Get(edgeName)
	return edge, s.checkEdge(edge)
}

// bodyFor returns the edge that a request's parameters or body name, and the body without it, which
// is one JSON object if there is an edge, or nil if there is none and none is needed.
func (s *Server) bodyFor(r *http.Request, emptyAllowed bool) (edge string, body []byte, err error) {
	if edge, err = s.edgeOf(r); err != nil {
		return "", nil, err
	}
	if body, err = readBody(r); err != nil {
		return "", nil, err
	}
	fields, err := strictjson.Fields(body)
	named := slices.ContainsFunc(fields, func(f strictjson.Field) bool { return f.Name == edgeName })
	switch {
	case edge == "" && !named:
		return "", body, nil // whoever reads it says what is wrong with it
	case emptyAllowed && len(bytes.TrimSpace(body)) == 0:
		return edge, nil, nil
	case err != nil:
		return "", nil, badBody(err)
	}
	rest := make(map[string]json.RawMessage)
	for _, f := range fields {
		if f.Again && f.Name == edgeName {
			return "", nil, badRequest("edge is given twice: give it once")
		}
		rest[f.Name] = f.Value
	}
	if named {
		var name string
		if err := json.Unmarshal(rest[edgeName], &name); err != nil {
			return "", nil, badRequest("edge must be a text: the name of an edge")
		}
		if edge != "" && name != edge {
			return "", nil, badRequest("the parameter edge is %q, and the body's is %q: give one of them", shorten(edge, 40), shorten(name, 40))
		}
		if err := s.checkEdge(name); err != nil {
			return "", nil, err
		}
		edge = name
		delete(rest, edgeName)
	}
	body, err = json.Marshal(rest)
	return edge, body, err
}

// checkEdge refuses a name that no edge can have. "" stands for this Pulse itself.
func (s *Server) checkEdge(name string) error {
	switch {
	case name == "":
		return nil
	case s.o.Edges == nil:
		return badRequest("this Pulse is no hub and has no edges: leave edge out, or ask the hub")
	}
	return checkName("the edge", name)
}

// onlyAt refuses what a hub may not ask of an edge.
func onlyAt(edge string) error {
	return badRequest("a hub may change nothing at an edge but overrides: ask the Pulse at the edge %s itself", edge)
}

// knownEdge refuses a name that no edge has, with or without a link.
func (s *Server) knownEdge(name string) error {
	if err := s.checkEdge(name); err != nil || name == "" {
		return err
	}
	if !slices.ContainsFunc(s.o.Edges.Edges(), func(e link.Edge) bool { return e.Name == name }) {
		return s.noEdge(name)
	}
	return nil
}

// passOn answers with what an edge answers.
func (s *Server) passOn(w http.ResponseWriter, r *http.Request, edge, what string, body []byte) error {
	var answer json.RawMessage
	if err := s.askFor(r, edge, what, body, &answer); err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

// tell asks an edge for what has no answer but that it is done.
func (s *Server) tell(r *http.Request, edge, what string, request any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return s.askFor(r, edge, what, body, &struct{}{})
}

// askFor asks an edge and reads its answer into answer. The error says at which edge, and whether
// something may have changed there.
func (s *Server) askFor(r *http.Request, edge, what string, body []byte, answer any) error {
	if len(body) > maxPassedOn {
		return &httpError{status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body is longer than the %d bytes that can be passed on to an edge", maxPassedOn)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	text, err := s.o.Edges.Ask(ctx, edge, what, body)
	if err == nil {
		if err = json.Unmarshal(text, answer); err == nil {
			return nil
		}
		return &httpError{status: http.StatusBadGateway, err: err, text: "edge " + edge + ": its answer cannot be read: " + unsure(r)}
	}
	refused, isRefused := errors.AsType[*link.Refused](err)
	switch {
	case isRefused:
		return &httpError{status: cmp.Or(statusOf[refused.Kind], http.StatusBadGateway), err: err, text: "edge " + edge + ": " + refused.Text}
	case errors.Is(err, link.ErrNoEdge):
		return s.noEdge(edge)
	case errors.Is(err, link.ErrDown):
		return &httpError{status: http.StatusServiceUnavailable, err: err, text: s.down(r, edge)}
	case errors.Is(r.Context().Err(), context.Canceled):
		return errGivenUp(err)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return &httpError{status: http.StatusGatewayTimeout, err: err, text: fmt.Sprintf("edge %s did not answer within %s: %s", edge, askTimeout, unsure(r))}
	}
	return &httpError{status: http.StatusBadGateway, err: err, text: "edge " + edge + ": the link broke before the answer came: " + unsure(r)}
}

// reads reports whether a request changes nothing.
func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// unsure is for an edge that was asked and has not answered.
func unsure(r *http.Request) string {
	if reads(r) {
		return "ask again"
	}
	return "it may have done what was asked, so look there before you ask again (GET /overrides and /relays take edge too)"
}

// noEdge is the answer for a name that no edge has.
func (s *Server) noEdge(name string) error {
	var known []string
	for _, e := range s.o.Edges.Edges() {
		known = append(known, e.Name)
	}
	more := didYouMean(name, known)
	if more == "" {
		more = "; GET /edges lists those that there are"
	}
	return &httpError{status: http.StatusNotFound, text: fmt.Sprintf("there is no edge %q%s", shorten(name, 64), more)}
}

// down is the text for an edge that has no link: since when, and what to do.
func (s *Server) down(r *http.Request, edge string) string {
	why, then := "has no link now", "ask again when GET /edges says connected, or ask the Pulse at the edge itself"
	for _, e := range s.o.Edges.Edges() {
		switch {
		case e.Name != edge:
		case e.State == link.StateSilent && !e.Since.IsZero():
			why = "has had no link since " + apijson.Time(e.Since).Format(time.RFC3339)
		case e.State == link.StateNever:
			why = "has never connected"
		case e.State == link.StateOff:
			why, then = "has no token here any more", "give it one again (--edges), or ask the Pulse at the edge itself"
		}
	}
	if !reads(r) {
		why += ": nothing was changed"
	}
	return "edge " + edge + " " + why + "; " + then
}
