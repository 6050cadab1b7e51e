package query

import "net/http"

// The handlers of overrides and relays do what they are asked with this Pulse's own relays,
// or pass it on to the edge that the request names.

func (s *Server) addOverride(w http.ResponseWriter, r *http.Request, _ params) error {
	edge, body, err := s.bodyFor(r, false)
	if err != nil {
		return err
	}
	if edge != "" {
		return s.passOn(w, r, edge, askOverride, body)
	}
	o, err := s.commands.override(r.Context(), body)
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, o)
	return nil
}

func (s *Server) listOverrides(w http.ResponseWriter, r *http.Request, _ params) error {
	switch edge, err := s.edgeOf(r); {
	case err != nil:
		return err
	case edge != "":
		return s.passOn(w, r, edge, askOverrides, nil)
	}
	s.writeJSON(w, http.StatusOK, s.commands.overrides())
	return nil
}

func (s *Server) cancelOverride(w http.ResponseWriter, r *http.Request, p params) error {
	edge, err := s.edgeOf(r)
	switch {
	case err != nil:
		return err
	case edge != "":
		err = s.tell(r, edge, askCancel, overrideID{p.get("id")})
	default:
		err = s.commands.cancel(p.get("id"))
	}
	if err != nil {
		return err
	}
	s.writeSuccess(w)
	return nil
}

type flushAnswer struct {
	Msg    string `json:"msg"`
	Relays int    `json:"relays"`
}

func (s *Server) flush(w http.ResponseWriter, r *http.Request, _ params) error {
	edge, body, err := s.bodyFor(r, true)
	if err != nil {
		return err
	}
	if edge != "" {
		return onlyAt(edge)
	}
	n, err := s.commands.flush(body)
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, flushAnswer{"Success", n})
	return nil
}
