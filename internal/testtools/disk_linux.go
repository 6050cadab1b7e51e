package testtools

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace is set in the environment of a test that runs again in a namespace with its own
// mounts.
const inNamespace = "PULSE_TEST_HAS_ITS_OWN_MOUNTS"

// SmallDisk mounts a file system of mib MiB until the test ends and returns its directory. If only
// root may mount, the test runs again as the root of a user namespace. The result of that run is
// then the test's result, and SmallDisk does not return.
func SmallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib))
	if errors.Is(err, unix.EPERM) && os.Getenv(inNamespace) == "" {
		again := exec.Command("unshare", "-Urm", os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
		again.Env = append(os.Environ(), inNamespace+"=1")
		output, err := again.CombinedOutput()
		t.Logf("as the root of a user namespace:\n%s", output)
		if err != nil {
			t.Fatalf("a file system cannot be mounted, and in a user namespace: %v", err)
		}
		t.SkipNow() // the test ran and passed in the namespace
	}
	if err != nil {
		t.Fatalf("mounting a file system of %d MiB: %v", mib, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// FillDisk takes every byte that is left in dir. The function that it returns frees them again.
func FillDisk(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}
