package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// An empty value of a flag means the same on the command line, in the environment and in the config
// file.
func TestEmptyMeansTheSameEverywhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse.json")
	for _, o := range options() {
		if o.long == "config-file" {
			continue // it cannot be in the config file
		}
		t.Run(o.long, func(t *testing.T) {
			tell := func(c *Config, err error) string {
				if err != nil {
					said, _, _ := strings.Cut(err.Error(), " (")
					return said
				}
				return strings.Join([]string{dump(*c), c.values[o.long]}, "|")
			}
			text := tell(ParseConfig([]string{"--" + o.long + "="}))
			writeFile(t, file, `{"`+o.long+`": ""}`)
			if got := tell(ParseConfig([]string{"-c", file})); strings.ReplaceAll(got, file, "") != text {
				t.Errorf("flag: %s\nfile: %s", text, got)
			}
			t.Setenv(command.EnvironmentName("PULSE", o.long), "")
			if got := tell(ParseConfig(nil)); got != text {
				t.Errorf("flag:        %s\nenvironment: %s", text, got)
			}
		})
	}
}

func TestEmptyEnvironment(t *testing.T) {
	t.Setenv("PULSE_NATS_LISTEN_ADDRESS", "")
	c, err := ParseConfig(nil)
	if err != nil || c.NATSAddress != "" {
		t.Errorf("PULSE_NATS_LISTEN_ADDRESS= gives %+v, %v", c, err)
	}
	t.Setenv("PULSE_TOKEN", "")
	file := filepath.Join(t.TempDir(), "pulse.json")
	writeFile(t, file, `{"token": "from the file"}`)
	const want = "--token: must not be empty (PULSE_TOKEN is set, but empty; unset it for the default)"
	if _, err := ParseConfig([]string{"-c", file}); err == nil || err.Error() != want {
		t.Errorf("PULSE_TOKEN= gives %v, want %s", err, want)
	}
	if c, err := ParseConfig([]string{"-t", "from the flag"}); err != nil || c.Token != "from the flag" {
		t.Errorf("a flag does not win: %+v, %v", c, err)
	}
}

// Sub-commands too treat an empty variable like an empty flag.
func TestEmptyEnvironmentOfCommands(t *testing.T) {
	for _, test := range []struct {
		variable string
		args     []string
		want     string
	}{
		{"PULSE_API", []string{"status"}, `--api: must be an address like http://127.0.0.1:8080, not ""`},
		{"PULSE_JSON", []string{"status"}, `--json: must be true or false, not "" (PULSE_JSON is set, but empty; unset it for the default)`},
		{"PULSE_PROJECTION", []string{"replay", "--from", "1h"}, `--projection: must be raw, aggregates or all, not ""`},
		{"PULSE_DATA_DIR", []string{"replay", "--from", "1h"}, "--data-dir: must name a directory (PULSE_DATA_DIR is set, but empty"},
		{"PULSE_RETENTION", []string{"replay", "--from", "1h", "--data-dir", "x"}, "--retention: must be a whole number"},
		{"PULSE_FORCE", []string{"backup", "x"}, "--force: must be true or false"},
		{"PULSE_RELAY_TLS", []string{"relay"}, `--tls: must be true or false, not "" (PULSE_RELAY_TLS is set, but empty`},
		{"PULSE_RELAY_LOG_LEVEL", []string{"relay"}, "--log-level: must be TRACE"},
	} {
		t.Run(test.variable, func(t *testing.T) {
			t.Setenv(test.variable, "")
			if code, _, stderr := runCommand(test.args...); code != command.ExitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, it says %q, want %q", code, stderr, test.want)
			}
		})
	}
}

// The error about an unknown name suggests the name that was probably meant.
func TestWhatWasMeant(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--pol-interval", "5"}, `unknown flag --pol-interval; did you mean "--poll-interval"?`},
		{[]string{"--poll_interval", "5"}, `did you mean "--poll-interval"?`},
		{[]string{"--http", "x"}, `did you mean "--http-listen-address"?`},
		{[]string{"--zzz"}, `unknown flag --zzz; pulse -h lists them`},
		{[]string{"-server"}, "unknown flag -server; did you mean --server?"},
		{[]string{"-poll-interval=5"}, "unknown flag -poll-interval; did you mean --poll-interval?"},
		{[]string{"-l", "debg"}, `must be TRACE, DEBUG, INFO, WARN, ERROR or FATAL, not "debg"; did you mean DEBUG?`},
		{[]string{"-l", "warning"}, "did you mean WARN?"},
		{[]string{"relay", "--log-level", "infoo"}, "--log-level: must be TRACE, DEBUG, INFO, WARN, ERROR or FATAL, not \"infoo\"; did you mean INFO?"},
		{[]string{"relay", "--sever", "x"}, "unknown flag --sever; did you mean --server?"},
		{[]string{"status", "--zzz"}, "unknown flag --zzz; pulse status -h lists them"},
		{[]string{"replay", "--from", "1h", "--dryrun"}, "unknown flag --dryrun; did you mean --dry-run?"},
		{[]string{"relay", "-l", "x"}, "unknown flag -l; did you mean --log-level?"},
		{[]string{"status", "-t", "x"}, "unknown flag -t; did you mean --token?"},
		{[]string{"status", "-zz"}, "unknown flag -zz; pulse status -h lists them"},
		{[]string{"status", "-tokn=x"}, "unknown flag -tokn; did you mean --token?"},
		{[]string{"relays", "forgt", "x"}, `unexpected argument "forgt"; did you mean "pulse relays forget"?`},
		{[]string{"relays", "web1"}, `unexpected argument "web1"; pulse relays -h shows what it takes`},
		{[]string{"consumers", "--api", "x", "remove", "y"}, `unexpected argument "remove"; pulse consumers -h shows what it takes`},
		{[]string{"stats"}, `unknown command "stats": there is`},
		{[]string{"stats"}, `did you mean "status"?`},
	} {
		code, _, stderr := runCommand(test.args...)
		if code != command.ExitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, it says %q, want %q", test.args, code, stderr, test.want)
		}
	}
}

func TestUnknownEnvironment(t *testing.T) {
	got := command.UnknownEnvironment("PULSE", command.Names(flagTable(options())), []string{"PULSE_TOKN=5ecret", "PULSE_POLL_INTERVAL=5", "PULSE_ZZZ=1", "HOME=/root"})
	want := []string{"PULSE_TOKN: no flag has this environment variable; did you mean PULSE_TOKEN?", "PULSE_ZZZ: no flag has this environment variable"}
	if !slices.Equal(got, want) {
		t.Errorf("it warns of %q, want %q", got, want)
	}
}

// --check-config, the server's log and the agent's log name a variable that nothing reads.
func TestUnknownEnvironmentIsTold(t *testing.T) {
	t.Setenv("PULSE_POLL_INTERVALL", "5")
	t.Setenv("PULSE_RELAY_SEVER", "x")
	const servers = "PULSE_POLL_INTERVALL: no flag has this environment variable; did you mean PULSE_POLL_INTERVAL?"
	if code, _, stderr := runCommand("--check-config"); code != command.ExitOK || !strings.Contains(stderr, "pulse: warning: "+servers+"\n") {
		t.Errorf("exit %d, it says %q", code, stderr)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := run(ctx, []string{"relay", "--server", "127.0.0.1:1"}, io.Discard, &log)
	const agents = "PULSE_RELAY_SEVER: no flag has this environment variable; did you mean PULSE_RELAY_SERVER?"
	if code != command.ExitOK || !strings.Contains(log.String(), agents) || strings.Contains(log.String(), "POLL_INTERVALL") {
		t.Errorf("exit %d, the log is %s", code, log.String())
	}
}

// Flags may stand before or after the other arguments of a command. After -- nothing is a flag.
func TestFlagsOnEitherSide(t *testing.T) {
	asked := make(chan string, 1)
	api := serveAPI(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path + " " + r.Header.Get("X-AUTH-TOKEN")
		_, _ = io.WriteString(w, "{}")
	})
	for _, args := range [][]string{
		{"relays", "forget", "web1", "--api", api.URL, "--token", "forget"},
		{"relays", "forget", "--token=forget", "web1", "--api", api.URL},
		{"relays", "--api", api.URL, "--token", "forget", "forget", "web1"},
		{"relays", "-token", "forget", "forget", "--api", api.URL, "--", "web1"},
	} {
		if code, stdout, stderr := runCommand(args...); code != command.ExitOK || stdout != "web1 is forgotten; its history stays\n" {
			t.Fatalf("%q: exit %d, %s%s", args, code, stdout, stderr)
		}
		if got := <-asked; got != "DELETE /relays/web1 forget" {
			t.Errorf("%q: it asks for %s", args, got)
		}
	}
	if code, stdout, stderr := runCommand("consumers", "delete", "mine", "--api", api.URL); code != command.ExitOK || stdout != "the consumer mine is deleted\n" || <-asked != "DELETE /consumers/mine secret" {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	if code, _, stderr := runCommand("relays", "forget", "--api", api.URL, "--", "--api"); code != command.ExitOK || <-asked != "DELETE /relays/--api secret" {
		t.Errorf("exit %d, %s", code, stderr)
	}
	file := filepath.Join(t.TempDir(), "b")
	if code, _, stderr := runCommand("restore", file, "--data-dir", t.TempDir()); code != command.ExitFailure || !strings.Contains(stderr, file) {
		t.Errorf("exit %d, %s", code, stderr)
	}
	for _, args := range [][]string{{"relays", "forget", "a", "--api", api.URL, "b"}, {"backup", "a", "b"}} {
		if code, _, stderr := runCommand(args...); code != command.ExitUsage || !strings.Contains(stderr, `unexpected argument "b": it takes one `) {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
	for _, args := range [][]string{{"relays", "forget", "a", "-h"}, {"help", "relays", "forget"}, {"relays", "-h", "forget"}} {
		if code, stdout, stderr := runCommand(args...); code != command.ExitOK || !strings.HasPrefix(stdout, "Forget a relay") {
			t.Errorf("%q: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
}

// --check-config prints the value of a switch, whatever its spelling was.
func TestCheckConfigShowsSwitches(t *testing.T) {
	_, stdout, stderr := runCommand("--check-config", "--host-stats=1", "--insecure=T")
	if !strings.Contains(stdout, `"host-stats": true`) || !strings.Contains(stdout, `"insecure": true`) {
		t.Errorf("it prints %s%s", stdout, stderr)
	}
}
