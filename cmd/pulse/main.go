// Command pulse collects stats from relays, keeps every reading in a durable
// journal, projects the journal into InfluxDB and live views, and answers
// questions about them over HTTP.
// main.go turns arguments into a Config and signals into calls. app.go is the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/agent"
	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/logqueue"
	"github.com/nanopack/pulse/internal/watchdog"
)

// release is set by the Makefile from the newest tag. It is empty after plain go build and go
// install.
var release string

// version returns the release, the commit that it was built from and the Go version that built it.
func version() string { return command.Version(release) }

// stopTimeout bounds a clean stop. Events that are not projected by then are projected at the next
// start.
const stopTimeout = 20 * time.Second

// program is what pulse is: its sub-commands, and the server.
func program() *command.Program {
	return &command.Program{
		Name: "pulse", Summary: "collect stats from relays, keep them, and answer questions about them", Release: release,
		Description: "Pulse collects stats from relays, keeps every reading in a durable journal, projects the journal into InfluxDB and live views, and answers questions about them over HTTP. The server is pulse -s.",
		Run:         runServer, Hint: "the server is pulse -s",
		Commands: []command.Subcommand{
			{Name: "relay", Help: "send this host's cpu, ram, swap, disk, load and network to a server", Run: agent.Command("pulse relay", nil), Reloads: true},
			{Name: "consumers", Help: "list the NATS clients' places in the journal, or delete one", Run: runConsumers, Verbs: []string{"delete"}},
			{Name: "relays", Help: "list the relays of a running server, or forget one", Run: runRelays, Verbs: []string{"forget"}},
			{Name: "edges", Help: "list the edges of a running hub", Run: runEdges},
			{Name: "alert", Help: "list the alerts of a running server, or test one on the past", Run: runAlert, Verbs: []string{"test"}},
			{Name: "status", Help: "show how a running server is doing", Run: runStatus},
			{Name: "replay", Help: "rebuild a range of time in InfluxDB from the journal", Run: runReplay},
			{Name: "check", Help: "compare the files of a data dir with what was written", Run: runCheck},
			{Name: "backup", Help: "write a backup of a server's data dir into a file", Run: runBackup},
			{Name: "restore", Help: "make a data dir of a backup", Run: runRestore},
		},
	}
}

func main() {
	// The libraries that Pulse embeds leave it to the umask who may read their files. The files
	// hold the token, keys and readings.
	unix.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(command.OnStandardStreams(func(stdout, stderr io.Writer) int { return run(ctx, os.Args[1:], stdout, stderr) }))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return program().Start(ctx, args, stdout, stderr)
}

func runServer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	config, err := ParseConfig(args)
	switch {
	case errors.Is(err, errHelp):
		command.Page{
			Name: "pulse", Commands: program().All(), Flags: flagTable(options()), Env: "PULSE", Example: "poll-interval", File: true,
		}.Show(stdout)
		return command.ExitOK
	case err != nil:
		fmt.Fprintln(stderr, "pulse:", err)
		return command.ExitUsage
	case config.Version:
		fmt.Fprintln(stdout, "pulse", version())
		return command.ExitOK
	case config.CheckConfig:
		if err := config.printTo(stdout); err != nil && !errors.Is(err, syscall.EPIPE) {
			fmt.Fprintln(stderr, "pulse:", err)
			return command.ExitFailure
		}
		for _, warning := range allWarnings(config) {
			fmt.Fprintln(stderr, "pulse: warning:", warning)
		}
		checkReach(stderr, config)
		return command.ExitOK
	case !config.Server:
		fmt.Fprintln(stderr, "pulse: nothing to do: pulse -s runs the server, pulse -h shows the flags")
		return command.ExitUsage
	}
	return serve(ctx, config, stdout, stderr)
}

// allWarnings returns warnings about the configuration and about environment variables that were
// probably meant for it.
func allWarnings(config *Config) []string {
	return append(command.UnknownEnvironment("PULSE", command.Names(flagTable(options())), os.Environ()), config.warnings()...)
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, config *Config, stdout, stderr io.Writer) int {
	hangups := command.NotifyHangups()
	var level slog.LevelVar
	level.Set(config.LogLevel)
	log := command.NewLogger(stderr, &level)
	for _, warning := range allWarnings(config) {
		log.WarnContext(ctx, warning)
	}
	systemd := watchdog.New(log)
	systemd.Tell("STATUS=opening " + config.DataDir)
	var metrics []prometheus.Collector
	if queue, ok := stderr.(*logqueue.Queue); ok {
		metrics = append(metrics, droppedLines(queue))
	}
	app, err := NewApp(ctx, config, log, metrics...)
	if err != nil {
		fmt.Fprintln(stderr, "pulse:", command.OneLine(err))
		return command.ExitFailure
	}
	if err := app.Start(ctx); err != nil {
		fmt.Fprintln(stderr, "pulse:", command.OneLine(err))
		return command.ExitFailure
	}
	greeting := command.NewLogQueue(stdout)
	defer greeting.Close()
	app.greet(ctx, greeting)
	systemd.Tell(daemon.SdNotifyReady, fmt.Sprintf("STATUS=relays at %s, api at %s", app.ingest.Addr(), app.query.Addr()))
	go systemd.Watch(ctx, app.liveness())
	command.ReloadAtHangups(ctx, hangups, func() {
		next, err := ParseConfig(config.args)
		if err == nil {
			err = app.Reload(next, &level)
		}
		if err != nil {
			command.ReloadFailed(log, err)
		}
	})
	log.Info("stopping; a second signal ends at once")
	systemd.Tell(daemon.SdNotifyStopping, "STATUS=writing what was journaled")
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := app.Stop(stopping); err != nil {
		fmt.Fprintln(stderr, "pulse:", command.OneLine(err))
		return command.ExitFailure
	}
	log.Info("stopped")
	return command.ExitOK
}
