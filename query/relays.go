package query

import "net/http"

// relays lists the registry, by id.
func (s *Server) relays(w http.ResponseWriter, r *http.Request, _ params) error {
	switch edge, err := s.edgeOf(r); {
	case err != nil:
		return err
	case edge != "":
		return s.passOn(w, r, edge, askRelays, nil)
	}
	s.writeJSON(w, http.StatusOK, s.o.Relays.Relays())
	return nil
}

// forgetRelay forgets a relay that is not connected. It takes any id, because ids are only looked
// up.
func (s *Server) forgetRelay(w http.ResponseWriter, r *http.Request, p params) error {
	edge, err := s.edgeOf(r)
	switch {
	case err != nil:
		return err
	case edge != "":
		return onlyAt(edge)
	}
	if err := s.o.Control.Forget(r.Context(), p.get("id")); err != nil {
		return err
	}
	s.writeSuccess(w)
	return nil
}
