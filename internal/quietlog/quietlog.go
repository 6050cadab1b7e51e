// Package quietlog keeps trouble that repeats from filling the log: one line a minute for each kind
// of trouble, with the number of lines that were left out since the last one.
package quietlog

import (
	"log/slog"
	"sync"
	"time"
)

// every is the time between two lines of one kind.
const every = time.Minute

// Logger is a logger for lines of which each counts, with the methods of [slog.Logger], and for
// lines that repeat. It is safe for concurrent use.
type Logger struct {
	*slog.Logger

	mu    sync.Mutex // guards kinds
	kinds map[string]*kind
}

// kind is one kind of lines that repeat.
type kind struct {
	logged  time.Time // when its last line was written
	skipped int       // how many were left out since
}

// New returns a Logger that writes to log.
func New(log *slog.Logger) *Logger { return &Logger{Logger: log, kinds: make(map[string]*kind)} }

// WarnRarely writes a warning, unless one of the same kind (name) was written within the last
// minute. A line that follows others which were left out ends with their number, as "repeated".
// Kinds are kept for good: they are few, and not made of what clients send.
func (l *Logger) WarnRarely(name, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kinds[name]
	now := time.Now()
	switch {
	case k == nil:
		k = new(kind)
		l.kinds[name] = k
	case now.Sub(k.logged) < every:
		k.skipped++
		return
	}
	if k.skipped > 0 {
		args = append(args, "repeated", k.skipped)
	}
	k.logged, k.skipped = now, 0
	l.Warn(msg, args...)
}
