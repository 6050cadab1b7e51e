package query

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nanopack/pulse/kapa"
)

// trialPatience is how long a trial waits for the one that is under way. A page that tries again for
// each change of a form gives up the one before at the same time.
const trialPatience = 5 * time.Second

// testAlert runs the evaluator with an alert over the journal, and answers what would have been
// posted. One alert is tried at a time, so that trials take no more than a part of the machine.
func (s *Server) testAlert(w http.ResponseWriter, r *http.Request, _ params) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	q, err := s.parseTrial(body)
	if err != nil {
		return err
	}
	// A trial ends with its client, and with the server.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	if err := s.takeTrial(ctx); err != nil {
		return err
	}
	defer func() { <-s.trying }()
	trial, err := s.o.Alerts.Try(ctx, q)
	_, isField := errors.AsType[*kapa.FieldError](err)
	switch {
	case isField:
		return err
	case err != nil && r.Context().Err() != nil:
		return errGivenUp(err)
	case err != nil && ctx.Err() != nil:
		return &httpError{status: http.StatusServiceUnavailable, text: "the server stops", err: err}
	case err != nil:
		return &httpError{status: http.StatusServiceUnavailable, text: "the journal cannot be read now: the server's log has the details", err: err}
	}
	if trial.Matched == 0 {
		views := []kapa.View{{Alert: q.Alert}}
		if s.warnOfUnseen(ctx, views); views[0].Warning != "" {
			trial.Notes = append(trial.Notes, views[0].Warning)
		}
	}
	s.writeJSON(w, http.StatusOK, trial)
	return nil
}

// takeTrial waits until no other alert is tried, but not for long. Who was let in takes one from
// trying in the end.
func (s *Server) takeTrial(ctx context.Context) error {
	wait := time.NewTimer(trialPatience)
	defer wait.Stop()
	select {
	case s.trying <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errGivenUp(ctx.Err())
	case <-wait.C:
		return &httpError{status: http.StatusServiceUnavailable, text: "another alert is being tested: try again in a moment"}
	}
}

// parseTrial reads the body of a request. Times without a zone are in the server's.
func (s *Server) parseTrial(body []byte) (q kapa.TrialRequest, err error) {
	alert, from, to, err := kapa.DecodeTrial(body)
	if err != nil {
		return q, err
	}
	now, loc := s.o.Now(), s.o.Location
	q = kapa.TrialRequest{Alert: alert, To: now, Limit: s.o.QueryTimeout}
	if q.From, _, err = ParseWhen(from, now, loc); err != nil {
		return q, badRequest("from %q: %v", shorten(from, 40), err)
	}
	if to != "" {
		if q.To, _, err = ParseWhen(to, now, loc); err != nil {
			return q, badRequest("to %q: %v", shorten(to, 40), err)
		}
	}
	if q.To.After(now) {
		q.To = now
	}
	q.From, q.To = q.From.Truncate(time.Second), q.To.Truncate(time.Second)
	if !q.From.Before(q.To) {
		return q, badRequest("from must be before to, and in the past: %s is not before %s", q.From.In(loc).Format(time.RFC3339), q.To.In(loc).Format(time.RFC3339))
	}
	return q, nil
}
