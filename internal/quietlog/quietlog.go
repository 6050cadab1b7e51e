// Package quietlog keeps repeated trouble from filling the log. It writes one line a minute for
// each kind of trouble, with the number of lines that were left out since the previous one.
package quietlog

import (
	"log/slog"
	"sync"
	"time"
)

// every is the shortest time between two lines of one kind.
const every = time.Minute

// Logger writes lines that repeat with WarnRarely, and all other lines with the methods of
// [slog.Logger]. It is safe for concurrent use.
type Logger struct {
	*slog.Logger

	mu    sync.Mutex // guards kinds
	kinds map[string]*kind
}

// kind is one kind of lines that repeat.
type kind struct {
	logged  time.Time // when its last line was written
	skipped int       // how many lines were left out since then
}

// New returns a Logger that writes to log.
func New(log *slog.Logger) *Logger { return &Logger{Logger: log, kinds: make(map[string]*kind)} }

// WarnRarely writes a warning, unless it wrote a warning of the same kind (name) within the last
// minute. If lines were left out before this one, it ends with their number as "repeated". Kinds
// are kept for ever. So there must be few of them, and their names must not come from clients.
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
