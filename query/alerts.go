package query

import (
	"errors"
	"net/http"

	"github.com/nanopack/pulse/kapa"
)

func (s *Server) listAlerts(w http.ResponseWriter, r *http.Request, _ params) error {
	alerts, err := s.o.Alerts.List()
	if err != nil {
		return err
	}
	s.warnOfUnseen(r.Context(), alerts)
	answer := make([]any, len(alerts))
	for i, alert := range alerts {
		answer[i] = s.alertView(alert)
	}
	s.writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) getAlert(w http.ResponseWriter, r *http.Request, p params) error {
	if err := checkName("the alert", p.get("id")); err != nil {
		return err
	}
	alert, err := s.o.Alerts.Get(p.get("id"))
	if err != nil {
		return err
	}
	s.writeAlert(w, r, alert)
	return nil
}

func (s *Server) writeAlert(w http.ResponseWriter, r *http.Request, alert kapa.View) {
	views := []kapa.View{alert}
	s.warnOfUnseen(r.Context(), views)
	s.writeJSON(w, http.StatusOK, s.alertView(views[0]))
}

func (s *Server) addAlert(w http.ResponseWriter, r *http.Request, _ params) error {
	return s.putAlert(w, r, s.o.Alerts.Create)
}

func (s *Server) updateAlert(w http.ResponseWriter, r *http.Request, _ params) error {
	return s.putAlert(w, r, s.o.Alerts.Update)
}

func (s *Server) putAlert(w http.ResponseWriter, r *http.Request, put func(kapa.Alert) (kapa.View, error)) error {
	if s.o.Compat == Compat02 {
		return s.addAlert02(w, r)
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	alert, err := kapa.Decode(body)
	if err != nil {
		return err
	}
	view, err := put(alert)
	if err != nil {
		return err
	}
	s.writeAlert(w, r, view)
	return nil
}

func (s *Server) deleteAlert(w http.ResponseWriter, _ *http.Request, p params) error {
	if err := checkName("the alert", p.get("id")); err != nil {
		return err
	}
	err := s.o.Alerts.Delete(p.get("id"))
	// Kapacitor says of a task that it does not have that it was deleted, and 0.2 passed that on.
	if err != nil && !(errors.Is(err, kapa.ErrNotFound) && s.o.Compat == Compat02) {
		return err
	}
	s.writeSuccess(w)
	return nil
}
