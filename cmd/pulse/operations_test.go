package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/selfsigned"
)

// TestOperations compares docs/OPERATIONS.md with running servers. Every metric in the page is in
// /metrics from the start, so that an alert on the metric can fire. Every flag in the page exists.
func TestOperations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	// A hub and an edge have all metrics between them.
	address, cert, key := freeport.Of(t), filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := selfsigned.Make(cert, key, "hub", address); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "--hub-listen-address", address, "--edges", "ams1=token-of-ams1", "--tls-cert", cert, "--tls-key", key)
	edge := startServer(t, t.TempDir(), "--influx-address", "embedded", "--edge-name", "ams1", "--hub-address", address, "--hub-token", "token-of-ams1", "--hub-ca", cert)
	await(t, s, "the edge is heard", time.Minute, func() error {
		_, err := s.Metric("pulse_hub_edge_heard_timestamp_seconds")
		return err
	})
	metrics := regexp.MustCompile(`\bpulse_[a-z_]+`).FindAllString(string(text), -1)
	if len(metrics) < 10 {
		t.Errorf("it names %q: is it still the same document?", metrics)
	}
	for _, name := range metrics {
		if _, err := s.Metric(name); err != nil {
			if _, err := edge.Metric(name); err != nil {
				t.Error(err)
			}
		}
	}
	for _, match := range regexp.MustCompile("`(?:pulse )?--([a-z-]+)").FindAllStringSubmatch(string(text), -1) {
		if !isFlag(match[1]) {
			t.Errorf("--%s is no flag", match[1])
		}
	}
}

func isFlag(name string) bool {
	return slices.ContainsFunc(options(), func(o option) bool { return o.long == name })
}

// A unit is the text of a systemd unit of docs/systemd.
type unit struct {
	t    *testing.T
	text []byte
}

// setting returns the last value of a setting.
func (u unit) setting(name string) string {
	u.t.Helper()
	match := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(u.text)
	if match == nil {
		u.t.Fatalf("the unit has no %s", name)
	}
	return string(match[1])
}

// readUnit checks what all units have in common, and returns the unit and the arguments of its
// program, with file as the config file.
func readUnit(t *testing.T, name, file string) (u unit, args []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	u = unit{t, text}
	if code := u.setting("RestartPreventExitStatus"); code != "78" || code != strconv.Itoa(command.ExitUsage) {
		t.Errorf("RestartPreventExitStatus=%s: 1 is a failure and 2 a crash, and both are to be started again", code)
	}
	if limit, err := strconv.Atoi(strings.TrimSuffix(u.setting("TimeoutStopSec"), "s")); err != nil || limit <= int(stopTimeout.Seconds()) {
		t.Errorf("TimeoutStopSec=%d (%v): a stop may take %v", limit, err, stopTimeout)
	}
	if reload := u.setting("ExecReload"); reload != "/bin/kill -HUP $MAINPID" {
		t.Errorf("ExecReload=%s: a reload is a SIGHUP", reload)
	}
	if u.setting("Type") != "notify" || u.setting("WatchdogSec") == "" {
		t.Error("systemd is not told that pulse notifies it")
	}
	args = strings.Fields(u.setting("ExecStart"))[1:]
	i := slices.Index(args, "--config-file")
	if i < 0 {
		t.Fatalf("ExecStart=%q reads no config file", args)
	}
	args[i+1] = file
	return u, args
}

// TestUnit compares docs/systemd/pulse.service with the program. Its command line is accepted, and
// its exit codes and time limits are those of the code.
func TestUnit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse.json")
	writeFile(t, file, `{"influx-address": "embedded"}`)
	u, args := readUnit(t, "pulse.service", file)
	config, err := ParseConfig(args)
	if err != nil || !config.Server || config.DataDir != "/var/lib/"+u.setting("StateDirectory") {
		t.Errorf("%q: %+v, %v", args, config, err)
	}
}

// TestUnitOfTheAgent does so with docs/systemd/pulse-relay.service.
func TestUnitOfTheAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pulse-relay.json")
	writeFile(t, file, `{"server": "127.0.0.1:3000"}`)
	_, args := readUnit(t, "pulse-relay.service", file)
	if code, _, stderr := runCommand(append([]string{"relay", "--check-config"}, args...)...); code != command.ExitOK {
		t.Errorf("%q: %s", args, stderr)
	}
}
