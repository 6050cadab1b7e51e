package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A system is a directory with a small Debian in it, in which a test installs packages.
type system struct {
	t    *testing.T
	root string
}

// newSystem unpacks the Debian that tools/install.sh made.
func newSystem(t *testing.T) system {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("only root may install packages: run the tests of tools/packages as root")
	}
	cache := os.Getenv("PULSE_TOOLS")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "pulse-tools")
	}
	s := system{t, t.TempDir()}
	if out, err := exec.Command("tar", "-C", s.root, "-xf", filepath.Join(cache, "debian.tar")).CombinedOutput(); err != nil {
		t.Fatalf("unpacking Debian (make tools makes it): %v\n%s", err, out)
	}
	// Nothing has to survive a power cut.
	if err := os.WriteFile(s.path("/etc/dpkg/dpkg.cfg.d/test"), []byte("force-unsafe-io\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// path returns where a file of the system is on this machine.
func (s system) path(name string) string { return filepath.Join(s.root, name) }

// inside is a command line that runs another one as a user in the system, with a /proc that goes
// away with it. The process id stays that of the command.
func (s system) inside(user string, args ...string) *exec.Cmd {
	const script = `mount -t proc proc "$0/proc" && user=$1 && root=$0 && shift && exec chroot --userspec="$user" "$root" "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, s.root, user}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a script as root in the system, and returns what it prints.
func (s system) run(script string) string {
	s.t.Helper()
	out, err := s.inside("root", "/bin/sh", "-ec", script).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// install copies a package into the system and installs it.
func (s system) install(files ...string) string {
	s.t.Helper()
	script := "dpkg -i"
	for i, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		name := fmt.Sprintf("/tmp/%d.deb", i)
		if err := os.WriteFile(s.path(name), content, 0o644); err != nil {
			s.t.Fatal(err)
		}
		script += " " + name
	}
	return s.run(script)
}

// read returns the content of a file, or "" if it is not there.
func (s system) read(name string) string {
	s.t.Helper()
	content, err := os.ReadFile(s.path(name))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(content)
}

// has compares what stat says of a file: its owner, group and mode; "" if there is none.
func (s system) has(name, want string) {
	s.t.Helper()
	got := strings.TrimSpace(s.run(`if [ -e ` + name + ` ]; then stat -c '%U:%G %a' ` + name + `; fi`))
	if got != want {
		s.t.Errorf("%s is %q, want %q", name, got, want)
	}
}
