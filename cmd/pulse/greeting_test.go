package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/journal"
)

func TestFromHere(t *testing.T) {
	for address, want := range map[string]string{"0.0.0.0:8080": "localhost:8080", "[::]:1": "localhost:1", "127.0.0.1:8080": "127.0.0.1:8080", "[::1]:2": "[::1]:2"} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := fromHere(tcp); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}

func TestDescribeReach(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for want, r := range map[string]journal.Reach{
		"how far it reaches back is known after a minute of readings":                                                        {},
		"reaches back 7d at the present rate of 9.9 kB/s (--journal-retention)":                                              {Seconds: 604800, Limit: journal.LimitRetention, BytesPerSecond: 9900},
		"reaches back 3h28m at the present rate of 800 kB/s (--journal-max-bytes; the 7d of --journal-retention need 490GB)": {Seconds: 12500, Limit: journal.LimitMaxBytes, BytesPerSecond: 800_000},
	} {
		if got := describeReach(r, week); got != want {
			t.Errorf("%+v is described as %q, want %q", r, got, want)
		}
	}
}

// --check-config says how far the journal of the data dir would reach, from its files. It makes no
// file, and does not fail if there is no journal or if the journal cannot be read.
func TestCheckConfigSaysTheReach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(what, want string) {
		t.Helper()
		code, stdout, stderr := runCommand("--check-config", "--data-dir", dir, "--journal-max-bytes", "64MB")
		if code != command.ExitOK || !strings.HasPrefix(stdout, "{") || !strings.HasPrefix(stderr, "pulse: the journal in "+dir+": ") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, it says %q, want %q", what, code, stderr, want)
		}
	}
	check("no journal", "known after a minute")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("--check-config left %v, %v", left, err)
	}

	block := filepath.Join(dir, "journal", "jetstream", "PULSE", "streams", "PULSE", "msgs", "1.blk")
	if err := os.MkdirAll(filepath.Dir(block), 0o700); err != nil {
		t.Fatal(err)
	}
	record := func(second int64) []byte { // 800 kB a record: length, number, time
		r := make([]byte, 800_000)
		binary.LittleEndian.PutUint32(r, uint32(len(r)))
		binary.LittleEndian.PutUint64(r[4:], uint64(second))
		binary.LittleEndian.PutUint64(r[12:], uint64(second*1e9))
		return r
	}
	if err := os.WriteFile(block, bytes.Join([][]byte{record(1000), record(1100)}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	check("a journal", "reaches back 1h6m at the present rate of 16 kB/s (--journal-max-bytes; the 7d of --journal-retention need 9.7GB)")
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(block, 0o700); err != nil {
		t.Fatal(err)
	}
	check("a block that cannot be read", "is not known: ")
}

// The greeting has a line about the journal.
func TestGreetingSaysTheReach(t *testing.T) {
	t.Parallel()
	config, err := ParseConfig([]string{"-s", "--data-dir", t.TempDir(), "--influx-address", "embedded", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", ""})
	if err != nil {
		t.Fatal(err)
	}
	app, err := NewApp(t.Context(), config, command.NewLogger(t.Output(), config.LogLevel))
	if err == nil {
		err = app.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	app.greet(t.Context(), &out)
	if want := "\n  journal  how far it reaches back is known after a minute of readings\n"; !strings.Contains(out.String(), want) {
		t.Errorf("the greeting is %s", &out)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
