package projector

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nanopack/pulse/internal/retry"
)

// backoff is the pause after a failure. While draining it is at most backoffDrain: the deadline is
// near, and a sink that comes back just in time should be found.
var backoff = retry.Backoff{First: 250 * time.Millisecond, Last: 30 * time.Second}

const backoffDrain = time.Second

// attempt calls op until it succeeds, the runner is stopped, or the error is a *RejectError: only
// then is it an error. What op does must be idempotent.
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
	failures := r.failures.Add()
	r.account.Failed()
	r.update(func(s *Status) {
		s.Failures++
		s.LastError, s.State = err.Error(), StateFailing
		if s.FailingSince.IsZero() {
			s.FailingSince = r.now()
		}
	})
	if r.failures.MayLog() && LogFailure(r.log, err,
		"the projection cannot go on and tries again; the journal keeps what it has not taken, for as long as its retention",
		"failures", failures, "applied", r.applied) {
		r.failures.Logged()
	}
	r.advanced()
	d := backoff.Pause(failures)
	if r.draining() {
		retry.Sleep(r.ctx, min(d, backoffDrain))
		return
	}
	retry.Sleep(r.idle, d)
}

// recovered ends a run of failures.
func (r *Runner) recovered() {
	failures, logged := r.failures.End()
	if failures == 0 {
		return
	}
	if logged {
		r.log.Info("the projection goes on", "failures", failures)
	}
	r.update(func(s *Status) {
		s.LastError, s.FailingSince = "", time.Time{}
	})
}

// A ToldError is a failure of a sink that was logged where it was found, for all who meet it:
// runners, a backlog and replays into one sink fail together. They try again as after any other
// failure, show it in their status, and log it at debug.
type ToldError struct{ Err error }

func (e *ToldError) Error() string { return e.Err.Error() }

// Unwrap returns the failure.
func (e *ToldError) Unwrap() error { return e.Err }

// LogFailure logs a failure that goes on, and reports whether its end is to be logged too.
func LogFailure(log *slog.Logger, err error, message string, args ...any) bool {
	level := slog.LevelWarn
	if _, told := errors.AsType[*ToldError](err); told {
		level = slog.LevelDebug
	}
	log.Log(context.Background(), level, message, append([]any{"error", err}, args...)...)
	return level >= slog.LevelWarn
}
