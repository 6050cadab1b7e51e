package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog takes the server's log: warnings and errors go on, the rest is for debugging, and what
// would end a nats-server process is kept for the caller of Open.
type serverLog struct {
	log     *slog.Logger
	trouble chan struct{} // gets one when the server logs an error
	outside Outside       // takes what is about clients; nil if there is none

	mu  sync.Mutex
	err error
}

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *serverLog) Noticef(format string, v ...any) { l.put(slog.LevelDebug, format, v) }

func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") {
		return // ours is made again at each start and never leaves the process
	}
	if l.client(format, v) {
		return
	}
	l.put(slog.LevelWarn, format, v)
}

func (l *serverLog) Errorf(format string, v ...any) {
	if l.client(format, v) {
		return // nothing that they do may look like trouble with the journal
	}
	l.put(slog.LevelError, format, v)
	select {
	case l.trouble <- struct{}{}:
	default:
	}
}

func (l *serverLog) Debugf(format string, v ...any) {}
func (l *serverLog) Tracef(format string, v ...any) {}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.put(slog.LevelError, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = errors.New(strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

func (l *serverLog) put(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "journal server: "+strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

// client reports whether a line is about an outside client, who has logged it then.
func (l *serverLog) client(format string, v []any) bool {
	return l.outside != nil && l.outside.Log(strings.TrimSpace(fmt.Sprintf(format, v...)))
}
