package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestFilesArePrivate checks every file of a server that was killed, started again and stopped, of
// its backup, and of the data dir restored from that backup. The umask takes no permission away.
// Only the owner may read the files, which contain the token, the certificate's key and readings.
func TestFilesArePrivate(t *testing.T) {
	old := syscall.Umask(0) // the umask of the processes that are started; this test runs alone
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "data")
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1", "--nats-listen-address", "127.0.0.1:0", "--relay-tls")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 10, Reconnect: true, TLS: anyCertificate()})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 20)
	awaitInInflux(t, s)
	s.Kill() // the next start makes links to the journal's files
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 20)

	backup := filepath.Join(t.TempDir(), "backup")
	runPulse(t, "backup", "--api", "http://"+s.HTTPAddr, backup)
	onlyForOwner(t, backup)
	stopProjected(t, s) // InfluxDB's files are written at the stop
	onlyForOwner(t, dir)

	restored := filepath.Join(t.TempDir(), "restored")
	runPulse(t, "restore", "--data-dir", restored, backup)
	onlyForOwner(t, restored)
	second := startServer(t, restored, "--influx-address", "embedded", "--insecure=true", "--relay-tls")
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	onlyForOwner(t, restored)
}

// onlyForOwner fails the test if other users can read anything at or below path.
func onlyForOwner(t *testing.T, path string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		}
		if info.Mode() != want {
			t.Errorf("%s is %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%s: %d files and directories", filepath.Base(path), files)
}

// awaitInInflux waits until a reading of the fleet is in InfluxDB.
func awaitInInflux(t *testing.T, s *pulseproc.Server) {
	t.Helper()
	await(t, s, "a reading in InfluxDB", time.Minute, func() error {
		return atLeastOne(s, "pulse_projector_points_written_total")
	})
}

// runPulse runs a command of pulse in a process of its own.
func runPulse(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), runAsPulse+"=1")
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pulse %q: %v: %s", args, err, output)
	}
	return string(output)
}
