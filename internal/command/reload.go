package command

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// NotifyHangups returns a channel that receives SIGHUP, which would otherwise end the process. If
// several come during a reload, one is kept, because one more reload sees everything that was
// written before them.
func NotifyHangups() <-chan os.Signal {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	return hangups
}

// ReloadAtHangups calls reload at each SIGHUP, until ctx ends.
func ReloadAtHangups(ctx context.Context, hangups <-chan os.Signal, reload func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if ctx.Err() == nil {
				reload()
			}
		}
	}
}

// Differing returns the flags whose values differ: those that a running process takes over, and
// those that need a restart.
func Differing(names []string, running, next map[string]string, takes []string) (changed, left []string) {
	for _, name := range names {
		switch {
		case running[name] == next[name]:
		case slices.Contains(takes, name):
			changed = append(changed, "--"+name)
		default:
			left = append(left, "--"+name)
		}
	}
	return changed, left
}

// TellReload logs what a reload changed, and in a second line what it could not change.
func TellReload(log *slog.Logger, changed, left []string) {
	if changed == nil {
		changed = []string{"nothing"}
	}
	log.Info("reloaded", "changed", strings.Join(changed, ", "))
	if left != nil {
		log.Warn("new values are ignored until a restart", "flags", strings.Join(left, ", "))
	}
}

// ReloadFailed logs why a reload changed nothing.
func ReloadFailed(log *slog.Logger, err error) {
	log.Error("not reloaded: everything stays as it was", "error", OneLine(err))
}
