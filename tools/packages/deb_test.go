package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var aToken = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// debs returns the packages of the server and the agent, of a revision.
func debs(t *testing.T, r revision) []string {
	t.Helper()
	dir := packages(t, r)
	return []string{find(t, dir, "pulse_*.deb"), find(t, dir, "pulse-relay_*.deb")}
}

// TestDeb installs the packages of the server and the agent in a clean Debian, starts both as their
// units would, finds the host, upgrades, removes, and purges.
func TestDeb(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	first := debs(t, version1)
	said := s.install(first...)
	s.has("/etc/pulse/pulse.json", "pulse:pulse 600")
	s.has("/etc/pulse/pulse-relay.json", "pulse-relay:pulse-relay 600")
	s.has("/var/lib/pulse", "pulse:pulse 700")
	s.has("/var/lib/pulse-relay", "pulse-relay:pulse-relay 700")
	token := s.token()
	if !strings.Contains(said, "Open http://127.0.0.1:8080/#token="+token) {
		t.Errorf("the token %s and the address are not said:\n%s", token, said)
	}
	for _, name := range []string{"pulse", "pulse-relay"} {
		s.has("/etc/systemd/system/multi-user.target.wants/"+name+".service", "root:root 777") // a link: it starts with the system
	}

	t.Run("units", s.verifyUnits)
	t.Run("host", func(t *testing.T) { s.findHost(t, token) })

	// What the administrator changed stays.
	config := strings.Replace(s.read("/etc/pulse/pulse.json"), "{", "{\n  \"poll-interval\": 7,", 1)
	if err := os.WriteFile(s.path("/etc/pulse/pulse.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("chmod 0640 /etc/pulse/pulse.json; chmod 0750 /var/lib/pulse; touch /etc/pulse/client.conf")
	stays := func(when string) {
		t.Helper()
		if now := s.read("/etc/pulse/pulse.json"); now != config {
			t.Errorf("%s the config file is\n%s\nand was\n%s", when, now, config)
		}
		s.has("/etc/pulse/pulse.json", "pulse:pulse 640")
		s.has("/var/lib/pulse", "pulse:pulse 750")
		s.has("/var/lib/pulse/pulse.db", "pulse:pulse 600")
	}
	said = s.install(debs(t, version2)...)
	stays("after the upgrade")
	if aToken.MatchString(said) {
		t.Errorf("an upgrade says a token:\n%s", said)
	}
	if versions := s.run(`dpkg-query -W -f '${Version} ${Status}\n' pulse pulse-relay`); versions != strings.Repeat("1.0.1 install ok installed\n", 2) {
		t.Errorf("after the upgrade: %s", versions)
	}
	s.run("dpkg -r pulse pulse-relay")
	stays("after remove")
	s.has("/usr/bin/pulse", "")
	s.has("/usr/bin/pulse-relay", "")
	s.has("/usr/lib/systemd/system/pulse.service", "")
	if said := s.install(first...); aToken.MatchString(said) {
		t.Errorf("an installation over what was removed says a token:\n%s", said)
	}
	stays("after an installation over what was removed")

	// A purge that cannot ask keeps the data.
	said = s.run("dpkg --purge pulse pulse-relay")
	if !strings.Contains(said, "/var/lib/pulse stays") || !strings.Contains(said, "/var/lib/pulse-relay stays") {
		t.Errorf("a purge does not say what stays:\n%s", said)
	}
	s.has("/etc/pulse/pulse.json", "")
	s.has("/etc/pulse/pulse-relay.json", "")
	s.has("/etc/pulse/client.conf", "root:root 644") // PulseAudio's
	s.has("/var/lib/pulse/pulse.db", "pulse:pulse 600")
	s.has("/var/lib/pulse-relay", "pulse-relay:pulse-relay 700") // with its spool
	s.has("/etc/systemd/system/multi-user.target.wants/pulse.service", "")
	if left := s.run("ls /var/lib/dpkg/info | grep ^pulse || true; ls -A /var/lib/systemd/deb-systemd-helper-enabled | grep pulse || true"); left != "" {
		t.Errorf("after the purge there is still %s", left)
	}

	// A purge whose question is answered with yes removes the data.
	s.install(first...)
	if s.token() == token {
		t.Error("an installation after a purge has the old token")
	}
	s.run("echo pulse pulse/remove-data boolean true | debconf-set-selections; dpkg --purge pulse")
	s.has("/var/lib/pulse", "")
}

// token returns the token of the config file.
func (s system) token() string {
	s.t.Helper()
	var config struct{ Token string }
	if err := json.Unmarshal([]byte(s.read("/etc/pulse/pulse.json")), &config); err != nil || !aToken.MatchString(config.Token) {
		s.t.Fatalf("the config file has the token %q: %v", config.Token, err)
	}
	return config.Token
}

// verifyUnits has systemd read the units.
func (s system) verifyUnits(t *testing.T) {
	s.run("ln -s /bin/true /usr/bin/kill") // Debian's procps, which everybody has
	for _, name := range []string{"pulse", "pulse-relay"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+s.root, "/usr/lib/systemd/system/"+name+".service").CombinedOutput()
		// The small Debian has no systemd, and so none of its units.
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "not found") && strings.Contains(line, name) {
				t.Errorf("%s: %s (%v)", name, line, err)
			}
		}
	}
}

// TestDebOverByHand installs the server over an installation by hand, as docs/OPERATIONS.md
// describes it.
func TestDebOverByHand(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const config = `{"token": "a token of my own"}`
	s.run(`groupadd --gid 700 pulse; useradd --system --gid pulse --home-dir /var/lib/pulse --shell /usr/sbin/nologin pulse
		install -d -m 0750 -o root -g pulse /etc/pulse /var/lib/pulse /etc/systemd/system
		printf '` + config + `' >/etc/pulse/pulse.json; chown pulse:pulse /etc/pulse/pulse.json; chmod 0400 /etc/pulse/pulse.json
		echo '[Service]' >/etc/systemd/system/pulse.service`)
	said := s.install(debs(t, version1)...)
	if now := s.read("/etc/pulse/pulse.json"); now != config {
		t.Errorf("the config file is now %s", now)
	}
	s.has("/etc/pulse/pulse.json", "pulse:pulse 400")
	s.has("/var/lib/pulse", "root:pulse 750")
	if !strings.Contains(said, "/etc/systemd/system/pulse.service is used instead") || aToken.MatchString(said) {
		t.Errorf("the installation says\n%s", said)
	}
	s.run("chroot --userspec=pulse-relay:pulse-relay / test -r /etc/pulse/pulse-relay.json")
}

// TestDebService has a systemctl that writes down what the packages want of it.
func TestDebService(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const systemctl = "#!/bin/sh\necho \"$*\" >>/tmp/calls\ncase $* in *is-enabled*) cat /tmp/enabled ;; *is-active*) test -e /tmp/active ;; esac\n"
	if err := os.WriteFile(s.path("/usr/bin/systemctl"), []byte(systemctl), 0o755); err != nil {
		t.Fatal(err)
	}
	s.run("mkdir -p /run/systemd/system; echo enabled >/tmp/enabled")
	// did returns what was done to the unit since the last call.
	did := func() string {
		t.Helper()
		calls := s.read("/tmp/calls")
		s.run("rm -f /tmp/calls")
		var done []string
		for line := range strings.Lines(calls) {
			for _, word := range strings.Fields(line) {
				if word == "start" || word == "stop" || strings.HasSuffix(word, "restart") {
					done = append(done, word)
				}
			}
		}
		return strings.Join(done, ", ")
	}
	first, second := debs(t, version1)[0], debs(t, version2)[0]
	for _, step := range []struct {
		name, want string
		do         func()
	}{
		{"the first installation", "start", func() { s.install(first); s.run("touch /tmp/active") }},
		{"an upgrade", "restart", func() { s.install(second) }},
		{"a removal", "stop", func() { s.run("dpkg -r pulse; rm /tmp/active") }},
		{"an installation over what was removed", "restart", func() { s.install(first) }},
		{"an upgrade of what is disabled", "", func() { s.run("echo disabled >/tmp/enabled"); s.install(second) }},
		{"a purge", "stop", func() { s.run("dpkg --purge pulse") }},
	} {
		step.do()
		if got := did(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}
