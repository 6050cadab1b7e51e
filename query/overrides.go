package query

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nanopack/pulse/internal/nearest"
)

// maxOverride bounds how long an override may hold.
const maxOverride = 7 * 24 * time.Hour

// seconds is a time in a body: a whole number of seconds, or text like "90s", "5m".
type seconds time.Duration

func (s *seconds) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil && text != "" {
		d, err := parseDuration(text)
		*s = seconds(d)
		if err != nil {
			return badRequest("%q is not a time: %v", text, err)
		}
		return nil
	}
	var n int64
	if err := json.Unmarshal(b, &n); err != nil || n < 0 || n > int64(maxBack/time.Second) {
		return badRequest(`%s is not a time: use whole seconds, or text like "90s"`, b)
	}
	*s = seconds(time.Duration(n) * time.Second)
	return nil
}

func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

type overrideBody struct {
	Duration   seconds            `json:"duration"`
	Collectors map[string]seconds `json:"collectors"`
	Relays     []string           `json:"relays"`
}

type overrideAnswer struct {
	ID         string             `json:"id"`
	Duration   seconds            `json:"duration"`
	Remaining  seconds            `json:"remaining"`
	Created    time.Time          `json:"created"`
	Until      time.Time          `json:"until"`
	Collectors map[string]seconds `json:"collectors"`
	Relays     []string           `json:"relays"`
}

func (s *Server) answerOf(o Override) overrideAnswer {
	a := overrideAnswer{
		ID:         o.ID,
		Duration:   seconds(o.Until.Sub(o.Created).Round(time.Second)),
		Remaining:  seconds(max(0, o.Until.Sub(s.o.Now()).Round(time.Second))),
		Created:    utcSeconds(o.Created),
		Until:      utcSeconds(o.Until),
		Collectors: make(map[string]seconds, len(o.Collectors)),
		Relays:     slices.Sorted(slices.Values(o.Relays)),
	}
	for name, d := range o.Collectors {
		a.Collectors[name] = seconds(d)
	}
	if a.Relays == nil {
		a.Relays = []string{}
	}
	return a
}

func (s *Server) addOverride(w http.ResponseWriter, r *http.Request, _ params) error {
	var body overrideBody
	if err := readJSON(r, &body, false); err != nil {
		return err
	}
	req := OverrideRequest{
		Duration:   time.Duration(body.Duration),
		Collectors: make(map[string]time.Duration, len(body.Collectors)),
		Relays:     body.Relays,
	}
	if !wholeSeconds(req.Duration) || req.Duration > maxOverride {
		return badRequest("duration must be between 1 second and %s, in whole seconds", ago(maxOverride))
	}
	if len(body.Collectors) == 0 {
		return badRequest(`collectors is empty: name at least one with its interval, like {"cpu": 5}`)
	}
	for name, d := range body.Collectors {
		if err := checkName("a collector", name); err != nil {
			return err
		}
		if !wholeSeconds(time.Duration(d)) {
			return badRequest("the interval of %s must be at least 1 second, in whole seconds", name)
		}
		req.Collectors[name] = time.Duration(d)
	}
	if err := checkRelays(body.Relays); err != nil {
		return err
	}
	o, err := s.o.Control.Override(r.Context(), req)
	if errors.Is(err, ErrInvalid) && s.o.Compat != Compat02 {
		err = fmt.Errorf("%w%s", err, s.overrideHint(req))
	}
	if err != nil {
		return controlError(err)
	}
	s.writeJSON(w, http.StatusOK, s.answerOf(o))
	return nil
}

func (s *Server) listOverrides(w http.ResponseWriter, _ *http.Request, _ params) error {
	answer := []overrideAnswer{}
	for _, o := range s.o.Control.Overrides() {
		answer = append(answer, s.answerOf(o))
	}
	slices.SortFunc(answer, func(a, b overrideAnswer) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) cancelOverride(w http.ResponseWriter, r *http.Request, p params) error {
	if err := checkName("the override", p.get("id")); err != nil {
		return err
	}
	if err := s.o.Control.CancelOverride(r.Context(), p.get("id")); err != nil {
		return controlError(err)
	}
	s.writeJSON(w, http.StatusOK, message{"Success"})
	return nil
}

type flushAnswer struct {
	Msg    string `json:"msg"`
	Relays int    `json:"relays"`
}

// flush takes {"relays": [...]}; no body, or no relays in it, means all.
func (s *Server) flush(w http.ResponseWriter, r *http.Request, _ params) error {
	var body struct {
		Relays []string `json:"relays"`
	}
	if err := readJSON(r, &body, true); err != nil {
		return err
	}
	if err := checkRelays(body.Relays); err != nil {
		return err
	}
	if err := s.unknownRelay(body.Relays); err != nil && s.o.Compat != Compat02 {
		return controlError(err)
	}
	n, err := s.o.Control.Flush(r.Context(), body.Relays)
	if err != nil {
		return controlError(err)
	}
	s.writeJSON(w, http.StatusOK, flushAnswer{"Success", n})
	return nil
}

func wholeSeconds(d time.Duration) bool { return d >= time.Second && d%time.Second == 0 }

func checkRelays(ids []string) error {
	for _, id := range ids {
		if err := checkName("a relay", id); err != nil {
			return err
		}
	}
	return nil
}

// unknownRelay is the error for the first id that no relay has, connected or not; nil if there is none.
func (s *Server) unknownRelay(ids []string) error {
	var known []string
	for _, r := range s.o.Relays.Relays() {
		known = append(known, r.ID)
	}
	for _, id := range ids {
		if slices.Contains(known, id) {
			continue
		}
		if like := nearest.Name(id, known); like != "" {
			return fmt.Errorf("%w: no relay has the id %q; did you mean %q?", ErrNotFound, id, like)
		}
		return fmt.Errorf("%w: no relay has the id %q; GET /relays lists those that there are", ErrNotFound, id)
	}
	return nil
}

// controlError chooses the status of an error of Control or Replays.
func controlError(err error) error {
	switch {
	case errors.Is(err, ErrTooMany), errors.Is(err, ErrConnected):
		return &httpError{status: http.StatusConflict, text: err.Error(), err: err}
	case errors.Is(err, ErrNotFound):
		return &httpError{status: http.StatusNotFound, text: err.Error(), err: err}
	case errors.Is(err, ErrInvalid):
		return &httpError{status: http.StatusBadRequest, text: err.Error(), err: err}
	}
	return err
}

// readBody reads a body as far as ServeHTTP lets it.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &httpError{status: http.StatusRequestEntityTooLarge, err: err,
			text: fmt.Sprintf("the body is longer than %d bytes", tooLong.Limit)}
	case err != nil:
		return nil, badRequest("the body could not be read: %v", err)
	}
	return b, nil
}

// readJSON reads a body that is one JSON object without fields of other names.
func readJSON(r *http.Request, v any, emptyAllowed bool) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	if len(strings.TrimSpace(string(b))) == 0 && emptyAllowed {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		var he *httpError
		if errors.As(err, &he) {
			return he
		}
		return badRequest("the body is not the JSON object expected: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body is more than one JSON object")
	}
	return nil
}
