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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/logqueue"
	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/internal/watchdog"
)

// Exit codes. A supervisor restarts after 1. It also restarts after 2, with which the Go runtime
// ends a process on a panic, SIGABRT (systemd's watchdog sends it), SIGSEGV or a lack of memory. A
// wrong command line, environment or config file needs a person. Its code is EX_CONFIG of
// sysexits.h, which nothing else gives.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 78
)

// stopTimeout bounds a clean stop. Events that are not projected by then are projected at the next
// start.
const stopTimeout = 20 * time.Second

type subcommand struct {
	name, help string
	run        func(ctx context.Context, args []string, stdout, stderr io.Writer) int
}

func subcommands() []subcommand {
	return []subcommand{
		{"relay", "send this host's cpu, ram, swap, disk, load and network to a server", runRelay},
		{"consumers", "list the NATS clients' places in the journal, or delete one", runConsumers},
		{"relays", "list the relays of a running server, or forget one", runRelays},
		{"alert", "list the alerts of a running server, or test one on the past", runAlert},
		{"status", "show how a running server is doing", runStatus},
		{"replay", "rebuild a range of time in InfluxDB from the journal", runReplay},
		{"check", "compare the files of a data dir with what was written", runCheck},
		{"backup", "write a backup of a server's data dir into a file", runBackup},
		{"restore", "make a data dir of a backup", runRestore},
		{"help", "show this, or the flags of a command", runHelp},
		{"version", "print version info", runVersion},
	}
}

func subcommandNames() string {
	var names []string
	for _, s := range subcommands() {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

func main() {
	// The libraries that Pulse embeds leave it to the umask who may read their files. The files
	// hold the token, keys and readings.
	unix.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(onStandardStreams(func(stdout, stderr io.Writer) int { return run(ctx, os.Args[1:], stdout, stderr) }))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		i := slices.IndexFunc(subcommands(), func(s subcommand) bool { return s.name == args[0] })
		if i < 0 {
			meant := nearest.Name(args[0], strings.Split(subcommandNames(), ", "))
			if meant != "" {
				meant = fmt.Sprintf("; did you mean %q?", meant)
			}
			fmt.Fprintf(stderr, "pulse: unknown command %q: there is %s; the server is pulse -s%s\n", args[0], subcommandNames(), meant)
			return exitUsage
		}
		command := subcommands()[i]
		if command.name != "relay" && !signal.Ignored(syscall.SIGHUP) { // nohup stays nohup
			var stop func()
			ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
			defer stop()
		}
		return command.run(ctx, args[1:], stdout, stderr)
	}
	return runServer(ctx, args, stdout, stderr)
}

func runServer(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	config, err := ParseConfig(args)
	switch {
	case errors.Is(err, errHelp):
		usage(stdout)
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "pulse:", err)
		return exitUsage
	case config.Version:
		fmt.Fprintln(stdout, "pulse", version())
		return exitOK
	case config.CheckConfig:
		if err := config.printTo(stdout); err != nil && !errors.Is(err, syscall.EPIPE) {
			fmt.Fprintln(stderr, "pulse:", err)
			return exitFailure
		}
		for _, warning := range allWarnings(config) {
			fmt.Fprintln(stderr, "pulse: warning:", warning)
		}
		checkReach(stderr, config)
		return exitOK
	case !config.Server:
		fmt.Fprintln(stderr, "pulse: nothing to do: pulse -s runs the server, pulse -h shows the flags")
		return exitUsage
	}
	return serve(ctx, config, stdout, stderr)
}

// allWarnings returns warnings about the configuration and about environment variables that were
// probably meant for it.
func allWarnings(config *Config) []string {
	return append(unknownEnvironment("PULSE", flagNames(options()), os.Environ()), config.warnings()...)
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, config *Config, stdout, stderr io.Writer) int {
	hangups := notifyHangups()
	var level slog.LevelVar
	level.Set(config.LogLevel)
	log := newLogger(stderr, &level)
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
		fmt.Fprintln(stderr, "pulse:", oneLine(err))
		return exitFailure
	}
	if err := app.Start(ctx); err != nil {
		fmt.Fprintln(stderr, "pulse:", oneLine(err))
		return exitFailure
	}
	greeting := newLogQueue(stdout)
	defer greeting.Close()
	app.greet(ctx, greeting)
	systemd.Tell(daemon.SdNotifyReady, fmt.Sprintf("STATUS=relays at %s, api at %s", app.ingest.Addr(), app.query.Addr()))
	go systemd.Watch(ctx, app.liveness())
	reloadAtHangups(ctx, hangups, func() {
		next, err := ParseConfig(config.args)
		if err == nil {
			err = app.Reload(next, &level)
		}
		if err != nil {
			reloadFailed(log, err)
		}
	})
	log.Info("stopping; a second signal ends at once")
	systemd.Tell(daemon.SdNotifyStopping, "STATUS=writing what was journaled")
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := app.Stop(stopping); err != nil {
		fmt.Fprintln(stderr, "pulse:", oneLine(err))
		return exitFailure
	}
	log.Info("stopped")
	return exitOK
}

// oneLine returns the text of an error, of joined errors too, as one line for the end of a program:
// people read the last line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
