package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// repository is where the tests find what they pack.
const repository = "../.."

// version1 and version2 are the revisions of an upgrade.
var (
	version1 = revision{release: "v1.0.0", commit: "0123456789ab", time: time.Unix(1_790_000_000, 0).UTC()}
	version2 = revision{release: "v1.0.1", commit: "ba9876543210", time: time.Unix(1_791_000_000, 0).UTC()}
)

// shared is a directory that the tests share, with what buildOnce built.
var shared string

// buildOnce builds the packages of a version for this machine, once for all tests.
var buildOnce = map[string]func() error{
	version1.release: sync.OnceValue(func() error { return run(version1, repository, filepath.Join(shared, version1.release), true) }),
	version2.release: sync.OnceValue(func() error { return run(version2, repository, filepath.Join(shared, version2.release), true) }),
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if shared, err = os.MkdirTemp("", "pulse-packages-test"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(shared)
		return m.Run()
	}())
}

// packages returns the directory with what was built of a version.
func packages(t *testing.T, r revision) string {
	t.Helper()
	if err := buildOnce[r.release](); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(shared, r.release)
}

// find returns the one file of a directory that matches the pattern.
func find(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v: want one file", pattern, dir, found, err)
	}
	return found[0]
}

// TestReproducible builds twice, from two directories and in two environments, and compares the
// checksums.
func TestReproducible(t *testing.T) {
	first := packages(t, version1)
	tree := filepath.Join(t.TempDir(), "a copy")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	// Without git, and without what was built.
	copying := exec.Command("sh", "-c", `tar -C "$0" --exclude=./.git --exclude=./bin --exclude='./query/console/node_modules/[!u]*' --exclude=./pulse-data -cf - . | tar -C "$1" -xf -`, repository, tree)
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, value := range map[string]string{
		"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "HOME": t.TempDir(), "SOURCE_DATE_EPOCH": "1", "GOFLAGS": "-buildvcs=auto -trimpath=false",
		"GOCACHE": goEnv(t, "GOCACHE"), "GOMODCACHE": goEnv(t, "GOMODCACHE"), "GOAMD64": "v2", "CGO_ENABLED": "1",
	} {
		t.Setenv(name, value)
	}
	second := t.TempDir()
	if err := run(version1, tree, second, true); err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	for i, dir := range []string{first, second} {
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if sums[0] != sums[1] || strings.Count(sums[0], "\n") < 5 {
		t.Errorf("the first build has the checksums\n%s\nand the second\n%s", sums[0], sums[1])
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := output(".", "go", "env", name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TestSizes holds the limits of the programs on disk, and that they are stripped.
func TestSizes(t *testing.T) {
	limits := map[string]int64{"pulse": 32 << 20, "pulse-relay": 8_000_000}
	for _, p := range programs() {
		dir := t.TempDir()
		archive := find(t, packages(t, version1), p.name+"_*_linux_"+runtime.GOARCH+".tar.gz")
		if out, err := exec.Command("tar", "-C", dir, "--strip-components=1", "-xzf", archive).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(filepath.Join(dir, p.name))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", p.name, info.Size())
		if info.Size() > limits[p.name] {
			t.Errorf("%s has %d bytes, want at most %d", p.name, info.Size(), limits[p.name])
		}
		for _, name := range []string{"LICENSE", "THIRD-PARTY-LICENSES", "README.md"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPackageVersion compares versions as dpkg sorts them.
func TestPackageVersion(t *testing.T) {
	at := func(release string, seconds int64) string {
		return revision{release: release, time: time.Unix(seconds, 0).UTC()}.packageVersion()
	}
	ascending := []string{
		at("dev", 1_700_000_000), at("66f1ad0", 1_800_000_000), at("1234567", 1_800_000_001), at("1234567-dirty", 1_800_000_001), // no tags
		at("v0.3.0-rc.1", 0), at("v0.3.0-rc.2", 0), at("v0.3.0-rc.2-4-g0a1b2c3", 0), at("v0.3.0", 0), at("v0.3.0-2-gfffffff", 0),
		at("v0.3.0-11-g0000000", 0), at("v0.3.0-11-g0000000-dirty", 0), at("v0.3.1", 0), at("v0.10.0", 0),
	}
	for i := 1; i < len(ascending); i++ {
		if out, err := exec.Command("dpkg", "--compare-versions", ascending[i-1], "lt", ascending[i]).CombinedOutput(); err != nil {
			t.Errorf("%s is not before %s: %s", ascending[i-1], ascending[i], out)
		}
	}
}
