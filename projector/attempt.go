package projector

import (
	"errors"
	"time"
)

// attempt calls op until it succeeds, the runner is stopped, or the error is a *RejectError: only then is it an
// error. What op does must be idempotent.
func (r *Runner) attempt(op func() error) error {
	for {
		err := op()
		if err == nil {
			r.recovered()
			return nil
		}
		if _, ok := errors.AsType[*RejectError](err); ok {
			return err
		}
		if r.ctx.Err() != nil {
			return err
		}
		r.failed(err)
	}
}

// failed notes a temporary failure and waits out the back-off.
func (r *Runner) failed(err error) {
	r.failures++
	r.metrics.failures.Inc()
	r.update(func(s *Status) {
		s.Failures++
		s.LastError, s.State = err.Error(), StateFailing
		if s.FailingSince.IsZero() {
			s.FailingSince = r.now()
		}
	})
	if r.loggedAt.IsZero() || time.Since(r.loggedAt) >= logEvery {
		if logFailure(r.log, err, "the projection cannot go on and tries again; the journal keeps what it has not taken, for as long as its retention",
			"failures", r.failures, "applied", r.applied) {
			r.logged, r.loggedAt = true, time.Now()
		}
	}
	if !r.searching() {
		r.advanced(r.behind())
	}
	d := backoff(r.failures)
	if r.draining() {
		t := time.NewTimer(min(d, backoffDrain))
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.ctx.Done():
		}
		return
	}
	r.wait(d)
}

// recovered ends a row of failures.
func (r *Runner) recovered() {
	if r.failures == 0 {
		return
	}
	if r.logged {
		r.log.Info("the projection goes on", "failures", r.failures)
	}
	r.failures, r.logged = 0, false
	r.update(func(s *Status) {
		s.LastError, s.FailingSince = "", time.Time{}
	})
}
