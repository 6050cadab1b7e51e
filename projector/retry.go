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

// retrier does again what fails, for the runner's goroutine.
type retrier struct {
	log      *slog.Logger
	account  *Account
	progress *progress
	ctx      context.Context // ends when the runner is to stop
	idle     context.Context // ends when it is to drain, too
	failures retry.Failures
}

// attempt calls op until it succeeds, the runner is stopped, or the error is a *RejectError: only
// then is it an error. What op does must be idempotent.
func (t *retrier) attempt(op func() error) error {
	for {
		err := op()
		if err == nil {
			t.recovered()
			return nil
		}
		if _, ok := errors.AsType[*RejectError](err); ok {
			return err
		}
		if t.ctx.Err() != nil {
			return err
		}
		t.failed(err)
	}
}

// failed notes a temporary failure and waits out the back-off.
func (t *retrier) failed(err error) {
	failures := t.failures.Add()
	t.account.Failed()
	t.progress.advance(func(s *Status) {
		s.Failures++
		s.LastError = err.Error()
		if s.FailingSince.IsZero() {
			s.FailingSince = t.progress.now()
		}
	})
	if t.failures.MayLog() && LogFailure(t.log, err,
		"the projection cannot go on and tries again; the journal keeps what it has not taken, for as long as its retention",
		"failures", failures, "applied", t.progress.applied()) {
		t.failures.Logged()
	}
	pause := backoff.Pause(failures)
	if t.idle.Err() != nil {
		retry.Sleep(t.ctx, min(pause, backoffDrain))
		return
	}
	retry.Sleep(t.idle, pause)
}

// recovered ends a run of failures.
func (t *retrier) recovered() {
	failures, logged := t.failures.End()
	if failures == 0 {
		return
	}
	if logged {
		t.log.Info("the projection goes on", "failures", failures)
	}
	t.progress.advance(func(s *Status) {
		s.LastError, s.FailingSince = "", time.Time{}
	})
}
