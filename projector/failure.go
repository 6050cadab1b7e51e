package projector

import (
	"context"
	"errors"
	"log/slog"
)

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
