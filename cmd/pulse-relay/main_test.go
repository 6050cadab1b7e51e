package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/internal/command"
)

// runAsRelay makes the test binary run as pulse-relay.
const runAsRelay = "TEST_BINARY_IS_PULSE_RELAY"

func TestMain(m *testing.M) {
	if os.Getenv(runAsRelay) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func runProgram(args ...string) (code int, stdout, stderr string) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // an agent that is accepted ends at once
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

func TestHelp(t *testing.T) {
	code, stdout, stderr := runProgram("-h")
	for _, want := range []string{
		"Usage:\n  pulse-relay [flags]\n  pulse-relay [command]\n\nCommands:\n", "\n  version    print", "\nFlags:\n      --check-config ",
		`(default "this host's name")`, `--server is "server" and PULSE_RELAY_SERVER.`,
	} {
		if code != command.ExitOK || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, there is no %q in %s%s", code, want, stdout, stderr)
		}
	}
	if _, helped, _ := runProgram("help"); helped != stdout {
		t.Errorf("help gives %s", helped)
	}
	if _, said, _ := runProgram("version"); !strings.HasPrefix(said, "pulse-relay ") {
		t.Errorf("version gives %s", said)
	}
	for _, made := range [][]string{{"man"}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}} {
		if code, stdout, stderr := runProgram(made...); code != command.ExitOK || !strings.Contains(stdout, "tls") || stderr != "" {
			t.Errorf("%q: exit %d, %s%s", made, code, stdout, stderr)
		}
	}
}

// TestCheckConfig checks that what --check-config prints is a config file, without the token, and
// that it opens no connection.
func TestCheckConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"server": "pulse.example.org:3000", "token": "5ecret", "tags": "rack:7,guy", "tls": true, "id": "web1"}`)
	t.Setenv("PULSE_RELAY_TAG", "x")
	code, stdout, stderr := runProgram("--check-config", "--config-file", file, "--log-level", "debug")
	if code != command.ExitOK || strings.Contains(stdout+stderr, "5ecret") ||
		!strings.Contains(stderr, "pulse-relay: warning: PULSE_RELAY_TAG: no flag") || !strings.Contains(stderr, `"guy"`) {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	var shown map[string]any
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if shown["server"] != "pulse.example.org:3000" || shown["token"] != "********" || shown["tls"] != true || shown["log-level"] != "debug" {
		t.Errorf("it shows %v", shown)
	}
	write(stdout)
	if code, again, _ := runProgram("--check-config", "--config-file", file); code != command.ExitOK || again != stdout {
		t.Errorf("exit %d, of what it printed it makes %s", code, again)
	}
}

// TestMisuse checks that a mistake gives exit code 78 and one line that names the flag.
func TestMisuse(t *testing.T) {
	for want, args := range map[string][]string{
		`pulse-relay: unknown command "versoin": there is completion, help, man, version; without a command it is the agent; did you mean "version"?`: {"versoin"},
		"pulse-relay: unknown flag --sever; did you mean --server?":                                                                                   {"--sever", "x"},
		"pulse-relay: unknown flag -t; did you mean --token?":                                                                                         {"-t", "x"},
		"pulse-relay: --server: must be host:port":                                                                                                    {"--server", "nowhere"},
		"pulse-relay: --id: must be 1 to 255 bytes":                                                                                                   {"--id", ""},
		"pulse-relay: --tls-ca: open nowhere.pem":                                                                                                     {"--tls-ca", "nowhere.pem"},
		"pulse-relay: --config-file: open nowhere.json":                                                                                               {"--config-file", "nowhere.json"},
		"pulse-relay: --log-level: must be TRACE":                                                                                                     {"--log-level", "loud"},
		`pulse-relay: unexpected argument "x"`:                                                                                                        {"--tls", "x"},
		"pulse-relay completion: SHELL is missing: pulse-relay completion [flags] SHELL":                                                              {"completion"},
	} {
		if code, stdout, stderr := runProgram(args...); code != command.ExitUsage || stdout != "" || !strings.HasPrefix(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, it says %q, want %q", args, code, stderr, want)
		}
	}
}

// TestSystemd runs the agent under systemd. It says when it is ready, reloads and stops, and pings
// the watchdog, also while there is no server.
func TestSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // short: a socket's path may have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	await := func(want string) {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for buf := make([]byte, 4096); ; {
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %s: %v", want, err)
			}
			if strings.HasPrefix(string(buf[:n]), want) {
				return
			}
		}
	}
	agent := exec.CommandContext(t.Context(), os.Args[0], "--server", "127.0.0.1:1", "--id", "web1")
	agent.Env = append(os.Environ(), runAsRelay+"=1", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=600000")
	var log bytes.Buffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	await("READY=1\nSTATUS=the server is 127.0.0.1:1")
	await("WATCHDOG=1")
	await("WATCHDOG=1")
	if err := agent.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await("RELOADING=1")
	await("READY=1")
	await("WATCHDOG=1")
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("STOPPING=1")
	if err := agent.Wait(); err != nil || !strings.Contains(log.String(), `msg=reloaded changed=nothing`) {
		t.Errorf("%v, the log is %s", err, log.String())
	}
}
