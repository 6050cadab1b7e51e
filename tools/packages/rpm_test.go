package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// TestRPM installs, upgrades and removes the rpms. They are for another system: the small Debian
// has what their scripts need, but not under the names that they depend on.
func TestRPM(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	rpm := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append([]string{"--root", s.root, "--nodeps"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	dir := packages(t, version1)
	said := rpm("-i", find(t, dir, "pulse-1*.rpm"), find(t, dir, "pulse-relay-1*.rpm"))
	s.has("/etc/pulse/pulse.json", "pulse:pulse 600")
	s.has("/etc/pulse/pulse-relay.json", "pulse-relay:pulse-relay 600")
	s.has("/var/lib/pulse", "pulse:pulse 700")
	token := s.token()
	if !strings.Contains(said, "#token="+token) || !strings.Contains(said, "systemctl enable --now pulse") {
		t.Errorf("the token and what to do are not said:\n%s", said)
	}
	config := s.read("/etc/pulse/pulse.json")
	s.run("touch /var/lib/pulse/pulse.db")
	newer := packages(t, version2)
	if said := rpm("-U", find(t, newer, "pulse-1*.rpm"), find(t, newer, "pulse-relay-1*.rpm")); aToken.MatchString(said) {
		t.Errorf("an upgrade says a token:\n%s", said)
	}
	if now := s.read("/etc/pulse/pulse.json"); now != config {
		t.Errorf("after the upgrade the config file is\n%s\nand was\n%s", now, config)
	}
	if out := s.run("/usr/bin/pulse -v"); !strings.Contains(out, "pulse v1.0.1 (commit ba9876543210, ") || !strings.Contains(out, runtime.GOARCH) {
		t.Errorf("after the upgrade it is %s", out)
	}
	rpm("-e", "pulse", "pulse-relay")
	s.has("/usr/bin/pulse", "")
	s.has("/etc/pulse/pulse.json", "pulse:pulse 600")
	s.has("/var/lib/pulse/pulse.db", "root:root 644")
}
