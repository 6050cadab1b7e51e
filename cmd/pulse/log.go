package main

import (
	"io"
	"log/slog"
)

// newLogger returns a logger that writes lines for people and for journald: time, level, message,
// then key=value.
func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.LevelKey {
				switch a.Value.Any() {
				case levelTrace:
					return slog.String(a.Key, "TRACE")
				case levelFatal:
					return slog.String(a.Key, "FATAL")
				}
			}
			return a
		},
	}))
}
