package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Every flag that is set to nothing means the same on the command line, in the
// environment and in the config file.
func TestEmptyMeansTheSameEverywhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse.json")
	for _, o := range options() {
		if o.long == "config-file" {
			continue // it cannot be a key of itself
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
			t.Setenv(environmentName("PULSE", o.long), "")
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

// The sub-commands take an empty variable for an empty flag too.
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
			if code, _, stderr := runCommand(test.args...); code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, it says %q, want %q", code, stderr, test.want)
			}
		})
	}
}

// A name that does not exist is told with the one that was meant.
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
		{[]string{"stats"}, `unknown command "stats": there is`},
		{[]string{"stats"}, `did you mean "status"?`},
	} {
		code, _, stderr := runCommand(test.args...)
		if code != exitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, it says %q, want %q", test.args, code, stderr, test.want)
		}
	}
}

func TestUnknownEnvironment(t *testing.T) {
	var log bytes.Buffer
	warnUnknownEnvironment(t.Context(), []string{"PULSE_TOKN=5ecret", "PULSE_POLL_INTERVAL=5", "PULSE_ZZZ=1", "HOME=/root"}, slog.New(slog.NewTextHandler(&log, nil)))
	var got []string
	for line := range strings.Lines(log.String()) {
		_, said, _ := strings.Cut(line, "variable\" ")
		got = append(got, strings.TrimSpace(said))
	}
	if want := []string{"name=PULSE_TOKN did_you_mean=PULSE_TOKEN", "name=PULSE_ZZZ"}; !reflect.DeepEqual(got, want) {
		t.Errorf("it warns of %q, want %q", got, want)
	}
}

// --check-config prints a switch as it is, however it was spelled.
func TestCheckConfigShowsSwitches(t *testing.T) {
	_, stdout, stderr := runCommand("--check-config", "--host-stats=1", "--insecure=T")
	if !strings.Contains(stdout, `"host-stats": true`) || !strings.Contains(stdout, `"insecure": true`) {
		t.Errorf("it prints %s%s", stdout, stderr)
	}
}
