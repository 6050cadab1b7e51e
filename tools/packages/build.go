package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A revision is what the packages are made of.
type revision struct {
	release string    // as git describes it, or "dev" without git
	commit  string    // twelve digits, or "" without git
	time    time.Time // of the commit; every file of every package has it
}

// revisionOf returns the revision of the repository. An unpacked archive of the source has no git:
// it is "dev", of the time that SOURCE_DATE_EPOCH says or of a fixed one.
func revisionOf(root string) (revision, error) {
	r := revision{release: "dev", time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if _, err := os.Stat(filepath.Join(root, ".git")); err == nil {
		describe, err := output(root, "git", "describe", "--tags", "--always", "--dirty")
		if err != nil {
			return r, err
		}
		head, err := output(root, "git", "log", "-1", "--format=%ct %H")
		if err != nil {
			return r, err
		}
		committed, commit, _ := strings.Cut(head, " ")
		r.release, r.commit = describe, commit[:min(12, len(commit))]
		if epoch == "" {
			epoch = committed
		}
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return r, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		r.time = time.Unix(seconds, 0).UTC()
	}
	return r, nil
}

// described splits what git says of a commit: the tag, the commits since and the newest of them.
var described = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(-[0-9A-Za-z.]+?)?(?:-(\d+)-(g[0-9a-f]+))?(-dirty)?$`)

// packageVersion returns the version for dpkg and rpm, which sort it: a pre-release (~) before the
// release, and what was built between two releases (+) after the first of them. What has no tag
// comes before everything that has one, the older first.
func (r revision) packageVersion() string {
	m := described.FindStringSubmatch(r.release)
	if m == nil || !strings.Contains(m[1], ".") { // a commit's digits are no version
		return "0~" + r.time.Format("20060102.150405") + "." + strings.ReplaceAll(r.release, "-", ".")
	}
	version := m[1]
	if m[2] != "" {
		version += "~" + m[2][1:]
	}
	if m[3] != "" {
		version += "+" + m[3] + "." + m[4]
	}
	if m[5] != "" {
		version += "+dirty"
	}
	return version
}

// fileVersion returns the version for the names of archives.
func (r revision) fileVersion() string { return strings.TrimPrefix(r.release, "v") }

// A binary is a program that was built.
type binary struct {
	target
	path string
}

// build builds the program for a target. The environment decides nothing: GOFLAGS and the levels of
// instructions have one value, and git's state goes in as text, because go build writes it into the
// binary or not as GOFLAGS says.
func (b *builder) build(p program, t target) (binary, error) {
	path := filepath.Join(b.work, t.String(), p.name)
	if t.os == "windows" {
		path += ".exe"
	}
	flags := fmt.Sprintf("-s -w -X main.release=%s -X github.com/nanopack/pulse/internal/command.commit=%s", b.revision.release, b.revision.commit)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", path, "./cmd/"+p.name)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GODEBUG=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOOS="+t.os, "GOARCH="+t.arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary{}, fmt.Errorf("%w\n%s", err, out)
	}
	return binary{t, path}, nil
}

// output returns what a command prints, without the end of its last line.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
