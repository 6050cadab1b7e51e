package query

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/kapa"
)

func (s *Server) listAlerts(w http.ResponseWriter, r *http.Request, p params) error {
	alerts, err := s.o.Alerts.List()
	if err != nil {
		return err
	}
	s.warnOfUnseen(r.Context(), alerts)
	answer := make([]any, len(alerts))
	for i, alert := range alerts {
		answer[i] = s.alertView(alert, p.level)
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
	s.writeAlert(w, r, alert, p.level)
	return nil
}

func (s *Server) writeAlert(w http.ResponseWriter, r *http.Request, alert kapa.View, level guesses.Level) {
	views := []kapa.View{alert}
	s.warnOfUnseen(r.Context(), views)
	s.writeJSON(w, http.StatusOK, s.alertView(views[0], level))
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
	s.writeAlert(w, r, view, guesses.Everything)
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

// alertView is an alert as an answer shows it. For who only reads, the receiver's address is left
// out but for its host, because it often holds a secret, and so are errors that may hold it.
func (s *Server) alertView(v kapa.View, level guesses.Level) any {
	if level == guesses.Reading {
		v.Post = hostOnly(v.Post)
		for _, text := range []*string{&v.Status.Error, &v.Status.DeliveryError} {
			if *text != "" {
				*text = "there is an error: the server's --token shows it"
			}
		}
	}
	if s.o.Compat == Compat02 {
		return view02(v)
	}
	return v
}

// hostOnly hides what may be secret in a URL: user, password, path and query.
func hostOnly(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "***"
	}
	return u.Scheme + "://" + u.Host + "/***"
}
