package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// TestCrashIsNotMisconfiguration ends a server as systemd's watchdog does. Its exit code must not
// be the one after which the unit does not restart it.
func TestCrashIsNotMisconfiguration(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded")
	if err := syscall.Kill(s.Pid(), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	err := s.Stop()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() == command.ExitUsage || exit.ExitCode() == command.ExitOK {
		t.Errorf("it ended with %v", err)
	}
}

// TestMisuseOfEveryCommand checks that any mistake on a command line or in the environment gives
// exit code 78 and one line.
func TestMisuseOfEveryCommand(t *testing.T) {
	t.Setenv("PULSE_RELAY_TLS", "perhaps")
	var commands [][]string
	for _, c := range program().All() {
		commands = append(commands, []string{c.Name, "--no-such-flag"})
	}
	commands = append(commands,
		[]string{}, []string{"--no-such-flag"}, []string{"-Q"}, []string{"-s", "--poll-interval", "0"}, []string{"--check-config", "extra"},
		[]string{"serve"}, []string{"help", "serve"}, []string{"help", "status", "relay"}, []string{"version", "extra"},
		[]string{"relay"}, // fails because of the environment
		[]string{"relay", "--tls=false", "--log-level", "loud"}, []string{"relay", "--tls=false", "--tls-ca", "nowhere.pem"},
		[]string{"relay", "--tls=false", "--id", ""}, []string{"relay", "--tls=false", "--server", "nowhere"},
		[]string{"status", "--api", "ftp://x"}, []string{"status", "extra"},
		[]string{"replay"}, []string{"replay", "--from", "never"},
		[]string{"backup"}, []string{"backup", "--api", "ftp://x", "f"}, []string{"backup", "f", "extra"}, []string{"backup", "--config-file", "nowhere.json", "f"},
		[]string{"restore"}, []string{"restore", "f", "extra"})
	for _, args := range commands {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Chdir(t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // a command that is accepted by mistake ends at once
			var stdout, stderr bytes.Buffer
			code := run(ctx, args, &stdout, &stderr)
			if code != 78 || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("exit code %d, want 78; stdout %q, stderr %q", code, stdout.String(), stderr.String())
			}
		})
	}
}
