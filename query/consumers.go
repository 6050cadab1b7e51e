package query

import "net/http"

// listConsumers lists the consumers of NATS clients.
func (s *Server) listConsumers(w http.ResponseWriter, r *http.Request, _ params) error {
	list, err := s.o.Consumers.Consumers(r.Context())
	if err != nil {
		return err
	}
	s.writeJSON(w, http.StatusOK, list)
	return nil
}

// deleteConsumer deletes a consumer. Its position in the journal is lost.
func (s *Server) deleteConsumer(w http.ResponseWriter, r *http.Request, p params) error {
	name := p.get("name")
	if err := checkName("a consumer", name); err != nil {
		return err
	}
	if err := s.o.Consumers.DeleteConsumer(r.Context(), name); err != nil {
		return err
	}
	s.writeSuccess(w)
	return nil
}
