package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nanopack/pulse/internal/command"
)

// TestOperations compares docs/OPERATIONS.md with a running server. Every metric in the page is in
// /metrics from the start, so that an alert on the metric can fire. Every flag in the page exists.
func TestOperations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, t.TempDir(), "--influx-address", "embedded")
	metrics := regexp.MustCompile(`\bpulse_[a-z_]+`).FindAllString(string(text), -1)
	if len(metrics) < 10 {
		t.Errorf("it names %q: is it still the same document?", metrics)
	}
	for _, name := range metrics {
		if _, err := s.Metric(name); err != nil {
			t.Error(err)
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

// TestUnit compares docs/systemd/pulse.service with the program. Its command line is accepted, and
// its exit codes and time limits are those of the code.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "systemd", "pulse.service"))
	if err != nil {
		t.Fatal(err)
	}
	setting := func(name string) string {
		match := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(text)
		if match == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return string(match[1])
	}
	if code := setting("RestartPreventExitStatus"); code != "78" || code != strconv.Itoa(command.ExitUsage) {
		t.Errorf("RestartPreventExitStatus=%s: 1 is a failure and 2 a crash, and both are to be started again", code)
	}
	if limit, err := strconv.Atoi(strings.TrimSuffix(setting("TimeoutStopSec"), "s")); err != nil || limit <= int(stopTimeout.Seconds()) {
		t.Errorf("TimeoutStopSec=%d (%v): a stop may take %v", limit, err, stopTimeout)
	}
	if reload := setting("ExecReload"); reload != "/bin/kill -HUP $MAINPID" {
		t.Errorf("ExecReload=%s: a reload is a SIGHUP", reload)
	}
	if setting("Type") != "notify" || setting("WatchdogSec") == "" {
		t.Error("systemd is not told that pulse notifies it")
	}
	args := strings.Fields(setting("ExecStart"))[1:]
	file := filepath.Join(t.TempDir(), "pulse.json")
	writeFile(t, file, `{"influx-address": "embedded"}`)
	i := slices.Index(args, "--config-file")
	if i < 0 {
		t.Fatalf("ExecStart=%q reads no config file", args)
	}
	args[i+1] = file
	config, err := ParseConfig(args)
	if err != nil || !config.Server || config.DataDir != "/var/lib/"+setting("StateDirectory") {
		t.Errorf("%q: %+v, %v", args, config, err)
	}
}
