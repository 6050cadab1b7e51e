// Package agent is the agent of a host: the program pulse-relay, and the command relay of pulse. It
// gives the stats of this host to a server that polls them.
package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/watchdog"
)

// Command returns the agent as a command that people call by name. commands are those of a program
// that is nothing but the agent; nil if there are none.
func Command(name string, commands func() []command.Subcommand) command.RunFunc {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) int {
		c := command.New(name, "Send the stats of this host to a server, until it is stopped: cpu, ram, swap, disks, load, network, and what files, commands and processes say.", "PULSE_RELAY", stdout, stderr)
		if commands != nil {
			c.Commands = commands()
		}
		return run(ctx, c, args)
	}
}

// run reads the configuration and runs the agent until ctx ends. The agent reconnects whenever the
// server was away.
func run(ctx context.Context, c *command.Command, args []string) int {
	hangups := command.NotifyHangups()
	config, done, code := parse(c, args)
	if done {
		return code
	}
	if config.checkOnly {
		return c.Write(func(w io.Writer) error {
			for _, warning := range config.warnings(os.Environ()) {
				if _, err := io.WriteString(c.Stderr, c.Name()+": warning: "+warning+"\n"); err != nil {
					return err
				}
			}
			return config.printTo(w)
		})
	}
	var level slog.LevelVar
	level.Set(config.level)
	log := command.NewLogger(c.Stderr, &level)
	for _, warning := range config.warnings(os.Environ()) {
		log.WarnContext(ctx, warning)
	}
	systemd := watchdog.New(log)
	config.options.Logger = log
	var listener net.Listener
	if config.metrics != "" {
		var err error
		if listener, err = net.Listen("tcp", config.metrics); err != nil {
			return c.Failed(fmt.Errorf("--metrics-address: %w", err))
		}
	}
	r, err := NewHostRelay(config.options, config.tags, config.sources)
	if err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return c.Failed(err) // the flags are right, so it is the spool
	}
	if listener != nil {
		defer serveMetrics(ctx, listener, r, log)()
	}
	systemd.Tell(daemon.SdNotifyReady, "STATUS=the server is "+config.options.Address)
	go systemd.Watch(ctx, func(context.Context) error {
		r.Info() // locks what every poll locks
		return nil
	})
	command.ReloadAtHangups(ctx, hangups, func() {
		systemd.Tell(daemon.SdNotifyReloading)
		var said bytes.Buffer
		next, done, _ := parse(command.New(c.Name(), "", "PULSE_RELAY", io.Discard, &said), args)
		err := errors.New(strings.TrimSpace(said.String()))
		if !done {
			err = config.reload(next, r, &level)
		}
		if err != nil {
			command.ReloadFailed(log, err)
		}
		systemd.Tell(daemon.SdNotifyReady)
	})
	systemd.Tell(daemon.SdNotifyStopping)
	if err := r.Close(); err != nil {
		return c.Failed(err)
	}
	return command.ExitOK
}

// reloads are the flags whose new values a running agent takes over, besides those of its sources.
// The agent reads the file of --tls-ca again, whether its name has changed or not.
var reloads = []string{"log-level", "tls-ca", "token"}

// reload takes over from next what can change while the agent runs: the credentials of the next
// connection, the sources, and the log level. The present connection stays.
func (c *config) reload(next *config, r *HostRelay, level *slog.LevelVar) error {
	takes := slices.Concat(reloads, sourceNames)
	changed, left := command.Differing(slices.Sorted(maps.Keys(next.values)), c.values, next.values, takes)
	if err := r.SetCredentials(next.options.Token, next.options.TLS); err != nil {
		return err
	}
	level.Set(next.level)
	for _, name := range takes {
		c.values[name] = next.values[name]
	}
	command.TellReload(c.options.Logger, changed, left)
	if err := r.SetSources(next.sources); err != nil {
		c.options.Logger.Error("stats are missing until the next reload or restart", "error", command.OneLine(err))
	}
	return nil
}
