package query

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/nanopack/pulse/ingest"
	"github.com/nanopack/pulse/internal/nearest"
)

func (s *Server) addOverride(w http.ResponseWriter, r *http.Request, _ params) error {
	var req ingest.OverrideRequest
	if err := readJSON(r, &req, false); err != nil {
		return err
	}
	if err := checkRelays(req.Relays); err != nil {
		return err
	}
	o, err := s.o.Control.Override(r.Context(), req)
	if errors.Is(err, ingest.ErrInvalid) && s.o.Compat != Compat02 {
		err = badRequest("%s%s", plainText(err), s.overrideHint(req))
	}
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, o)
	return nil
}

// listOverrides lists the overrides in force, the oldest first.
func (s *Server) listOverrides(w http.ResponseWriter, _ *http.Request, _ params) error {
	list := s.o.Control.Overrides()
	slices.SortFunc(list, func(a, b ingest.Override) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	s.writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *Server) cancelOverride(w http.ResponseWriter, _ *http.Request, p params) error {
	id := p.get("id")
	if err := checkName("the override", id); err != nil {
		return err
	}
	if err := s.o.Control.CancelOverride(id); err != nil {
		return err
	}
	s.writeSuccess(w)
	return nil
}

type flushAnswer struct {
	Msg    string `json:"msg"`
	Relays int    `json:"relays"`
}

// flush takes {"relays": [...]}. No body, or no relays in it, means all.
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
		return err
	}
	s.writeJSON(w, http.StatusOK, flushAnswer{"Success", s.o.Control.Flush(body.Relays)})
	return nil
}

func checkRelays(ids []string) error {
	for _, id := range ids {
		if err := checkName("a relay", id); err != nil {
			return err
		}
	}
	return nil
}

// unknownRelay is the error for the first id that no relay has, connected or not. It is nil if
// there is none.
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
			return fmt.Errorf("%w: no relay has the id %q; did you mean %q?", ingest.ErrNotFound, id, like)
		}
		return fmt.Errorf("%w: no relay has the id %q; GET /relays lists those that there are", ingest.ErrNotFound, id)
	}
	return nil
}
