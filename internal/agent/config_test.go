package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/relaywire/relay"
	"github.com/nanopack/pulse/relaywire/relay/commands"
	"github.com/nanopack/pulse/relaywire/relay/hoststats"
	"github.com/nanopack/pulse/relaywire/relay/source"
)

// parsed returns the configuration of arguments, or what is said about them.
func parsed(t *testing.T, args ...string) (*config, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c, done, code := parse(command.New("pulse-relay", "", "PULSE_RELAY", &stdout, &stderr), args)
	if done != (code == command.ExitUsage) || done != (stderr.Len() > 0) {
		t.Errorf("%q: done %t, exit %d, %q", args, done, code, stderr.String())
	}
	return c, strings.TrimSpace(stderr.String())
}

// TestSourcesOfTheConfiguration checks that flags, the environment and the file describe the same
// sources.
func TestSourcesOfTheConfiguration(t *testing.T) {
	want := Sources{
		Host: &hoststats.Options{
			Mounts:     source.Filter{Include: source.Globs{"/", "/var*"}},
			Devices:    source.Filter{Include: source.Globs{}},
			Interfaces: source.Filter{Include: source.Globs{}, Exclude: source.Globs{"wg*"}},
		},
		Textfile:  "/var/lib/node_exporter",
		Commands:  []commands.Command{{Name: "a", Line: "echo 1,2", Interval: time.Minute, Timeout: 3 * time.Second}, {Name: "b", Line: "echo x=1", Interval: time.Minute, Timeout: 3 * time.Second}},
		Processes: []string{"nginx", "post*"},
	}
	check := func(from string, args ...string) {
		t.Helper()
		c, said := parsed(t, args...)
		if said != "" {
			t.Fatalf("%s: %s", from, said)
		}
		if !reflect.DeepEqual(c.sources, want) {
			t.Errorf("%s: %+v (host %+v), want %+v (host %+v)", from, c.sources, c.sources.Host, want, want.Host)
		}
	}
	check("flags", "--mounts", "/, /var*", "--interfaces-exclude", "wg*", "--textfile", "/var/lib/node_exporter", "--command", "a=echo 1,2", "--command", "b=echo x=1",
		"--command-timeout", "3s", "--command-interval", "1m", "--processes", "nginx", "--processes=post*")
	file := filepath.Join(t.TempDir(), "agent.json")
	if err := os.WriteFile(file, []byte(`{"mounts": ["/", "/var*"], "interfaces-exclude": "wg*", "textfile": "/var/lib/node_exporter",
		"command": ["a=echo 1,2", "b=echo x=1"], "command-timeout": "3s", "command-interval": "1m", "processes": "nginx,post*"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	check("file", "--config-file", file)
	t.Setenv("PULSE_RELAY_COMMAND", "a=echo 1,2\nb=echo x=1")
	t.Setenv("PULSE_RELAY_PROCESSES", "nginx,post*")
	check("file and environment", "--config-file", file)
}

func TestDefaults(t *testing.T) {
	c, said := parsed(t, "--id", "web1")
	if said != "" || c.sources.Host == nil || c.sources.Host.Interfaces.Exclude != nil || c.sources.Textfile != "" || len(c.sources.Commands)+len(c.sources.Processes) > 0 {
		t.Errorf("%s, %+v", said, c.sources)
	}
	if want := (&relay.SpoolOptions{}); !reflect.DeepEqual(c.options.Spool, want) {
		t.Errorf("the spool is %+v, want one in memory", c.options.Spool)
	}
	if c, said := parsed(t, "--id", "web1", "--host-stats=false", "--spool", "/x", "--spool-max", "1GB"); said != "" || c.sources.Host != nil || *c.options.Spool != (relay.SpoolOptions{Dir: "/x", MaxBytes: 1e9}) {
		t.Errorf("%s, %+v, %+v", said, c.sources, c.options.Spool)
	}
}

// TestRefusals checks that what cannot work is refused with the name of the flag.
func TestRefusals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.json")
	for text, want := range map[string]string{
		`{"processes": [1]}`:          `the value of "processes" must be a text, a number, true or false, not a list of other things than texts`,
		`{"processes": ["a,b"]}`:      `not a list whose texts hold ","`,
		`{"tags": ["a:b"]}`:           `the value of "tags" must be a text, a number, true or false, not a list`,
		`{"comand": ["a=b"]}`:         `unknown key "comand"; did you mean "command"?`,
		`{"zzz": 1}`:                  "pulse-relay -h lists them",
		`{"command-timeout": "soon"}`: "--command-timeout: must be a duration",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, said := parsed(t, "--config-file", file); !strings.Contains(said, want) || strings.Contains(said, "\n") {
			t.Errorf("%s: %s, want %s", text, said, want)
		}
	}
	for want, args := range map[string][]string{
		"--command: ":          {"--command", "no command"},
		"--command-timeout: ":  {"--command-timeout", "-1s"},
		"--processes: ":        {"--processes", "/bin/sh"},
		"--spool-max: must be": {"--spool-max", "1kB"},
		"--tags: ":             {"--tags", "device:sda"},
	} {
		if _, said := parsed(t, append(args, "--id", "web1")...); !strings.HasPrefix(said, "pulse-relay: "+want) || strings.Contains(said, "\n") {
			t.Errorf("%q: %s, want %s", args, said, want)
		}
	}
	if _, said := parsed(t, "--id", "web1", "--command", "a=x", "--command", "a=y"); !strings.Contains(said, "two called a") {
		t.Errorf("two commands of one name: %s", said)
	}
}

func TestTextfileDirectory(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/a.prom"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		code int
		said string
	}{{file, command.ExitUsage, "is no directory"}, {dir + "/later", command.ExitOK, "nothing is read until the directory is there"}, {dir, command.ExitOK, ""}} {
		var out, said strings.Builder
		code := Command("relay", nil)(t.Context(), []string{"--check-config", "--id", "web1", "--textfile", tt.path}, &out, &said)
		if code != tt.code || !strings.Contains(said.String(), tt.said) || tt.said == "" && said.Len() > 0 {
			t.Errorf("%s: %d, %q", tt.path, code, said.String())
		}
	}
}
