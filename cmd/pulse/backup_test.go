package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/testtools"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/migrations"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestBackupAndRestore makes backups of a server under load, and of the data dir without a server.
// A restored data dir starts like that of a killed server: everything that was appended before the
// backup is in the journal, InfluxDB equals a recount, and relays and overrides are known.
func TestBackupAndRestore(t *testing.T) {
	const relays, stats = 50, 10
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN")
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: relays, Stats: stats})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Post("/overrides", `{"duration":3600,"collectors":{"`+relaytest.FleetCollector(0)+`":2}}`); err != nil {
		t.Fatal(err)
	}
	await(t, s, "load", time.Minute, func() error {
		if fleet.Polls() < 4*relays {
			return fmt.Errorf("%d polls", fleet.Polls())
		}
		return nil
	})
	var before struct {
		Journal struct {
			Last uint64 `json:"last_sequence"`
		}
	}
	if err := s.Get("/status", &before); err != nil {
		t.Fatal(err)
	}

	running := filepath.Join(t.TempDir(), "running.tar.zst")
	pulse(t, command.ExitOK, "backup", "--api", s.HTTPAddr, running)
	if text := pulse(t, command.ExitFailure, "backup", "--api", s.HTTPAddr, running); !strings.Contains(text, "exists") {
		t.Errorf("a second backup into the same file: %s", text)
	}
	if text := pulse(t, command.ExitFailure, "backup", "--api", s.HTTPAddr, "--token", "wrong", running+".2"); !strings.Contains(text, "--token") {
		t.Errorf("with a wrong token: %s", text)
	}
	if text := pulse(t, command.ExitFailure, "backup", "--api", s.HTTPAddr, "/dev/full/x"); text == "" {
		t.Error("no word about a file that cannot be made")
	}
	fleet.Stop()
	stopProjected(t, s)
	if text := pulse(t, command.ExitFailure, "backup", "--api", s.HTTPAddr, running+".2"); !strings.Contains(text, "--data-dir") {
		t.Errorf("without a server: %s", text)
	}
	stopped := filepath.Join(t.TempDir(), "stopped.tar.zst")
	pulse(t, command.ExitOK, "backup", "--api", s.HTTPAddr, "--data-dir", dir, "--influx-address", "embedded", stopped)

	for name, file := range map[string]string{"running": running, "stopped": stopped} {
		copied := filepath.Join(t.TempDir(), "data")
		if text := pulse(t, command.ExitOK, "restore", "--data-dir", copied, file); !strings.Contains(text, "must not run beside the original under the same --edge-name") {
			t.Errorf("%s: restored: %s", name, text)
		}
		if text := pulse(t, command.ExitFailure, "restore", "--data-dir", copied, file); !strings.Contains(text, "not empty") {
			t.Errorf("%s: restored twice: %s", name, text)
		}
		r := startServer(t, copied, "--influx-address", "embedded", "-p", "1", "-a", "1", "-l", "WARN")
		var known []struct {
			ID        string
			Connected bool
		}
		if err := r.Get("/relays", &known); err != nil || len(known) != relays {
			t.Errorf("%s: %d relays known, %v", name, len(known), err)
		}
		var overrides []json.RawMessage
		if err := r.Get("/overrides", &overrides); err != nil || len(overrides) != 1 {
			t.Errorf("%s: %d overrides, %v", name, len(overrides), err)
		}
		if err := r.Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := recount(t, copied)
		if want.last < before.Journal.Last || want.events < 4*relays {
			t.Errorf("%s: %d records with %d events, %d records were there before the backup", name, want.last, want.events, before.Journal.Last)
		}
		compareWithInflux(t, copied, want)
	}
}

// pulse runs a command to its end and returns what it printed.
func pulse(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), args, &out, &errs); got != code {
		t.Fatalf("pulse %s: exit %d, expected %d: %s", strings.Join(args, " "), got, code, errs.String())
	}
	return out.String() + errs.String()
}

// A killer passes writes on and kills the server at the first write.
type killer struct {
	w    io.Writer
	kill func()
}

func (k killer) Write(b []byte) (int, error) {
	k.kill()
	return k.w.Write(b[:len(b)/2])
}

// If the server ends in the middle of a backup, no file is left.
func TestBackupOfADyingServer(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded", "--host-stats", "-p", "1")
	file := filepath.Join(t.TempDir(), "backup")
	client, err := clientFlags{api: &s.HTTPAddr, token: new(defaultToken), caFile: new(string)}.client()
	if err != nil {
		t.Fatal(err)
	}
	_, err = backUpInto(file, false, func(w io.Writer) error {
		return client.download(t.Context(), "/backup", killer{w, s.Kill})
	})
	if err == nil {
		t.Error("a backup of a server that was killed passed")
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// A backup without a server drops nothing from the journal, whatever the limits in flags and
// defaults. These limits need not be the server's.
func TestOfflineBackupDropsNothing(t *testing.T) {
	const events = 10
	dir := t.TempDir()
	state, err := migrations.Open(dir, migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(state.DB)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if _, err := j.Append(t.Context(), &codec.Event{Relay: "web1", Time: time.Now().UnixNano(),
			Collectors: []codec.Collector{{Name: "cpu", Stats: []codec.Stat{{ID: "used", Value: float64(i)}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.Close(t.Context()), state.Close()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // so that the events are older than a second
	config, err := ParseConfig([]string{"--data-dir", dir, "--influx-address", "embedded", "--journal-set-aside"})
	if err != nil {
		t.Fatal(err)
	}
	config.JournalRetention = time.Second
	m, err := checked(io.Discard, func(w io.Writer) error { return backUpOffline(t.Context(), config, w, io.Discard) })
	if err != nil || m.FirstSequence != 1 || m.LastSequence != events {
		t.Fatalf("%v; %+v", err, m)
	}
	state, err = migrations.Open(dir, migrations.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	j, err = journal.Open(t.Context(), journal.Options{Dir: filepath.Join(dir, "journal"), Marker: journal.BoltMarker(state.DB)})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(t.Context())
	if left, err := j.State(t.Context()); err != nil || left.Messages != events {
		t.Errorf("the journal that was backed up has %d events left, %v", left.Messages, err)
	}
}

// Of two backups into one file at the same time, the second is refused and does not harm the first.
// A file that was made under the name meanwhile stays.
func TestTwoBackupsIntoOneFile(t *testing.T) {
	whole := writeArchive(t, archived())
	file := filepath.Join(t.TempDir(), "backup")
	write := func(w io.Writer) error { _, err := w.Write(whole); return err }
	_, err := backUpInto(file, false, func(w io.Writer) error {
		if _, err := w.Write(whole[:1000]); err != nil {
			return err
		}
		if _, err := backUpInto(file, false, write); err == nil || !strings.Contains(err.Error(), "another backup") {
			t.Errorf("the second: %v", err)
		}
		_, err := w.Write(whole[1000:])
		return err
	})
	if got, rerr := os.ReadFile(file); err != nil || rerr != nil || !bytes.Equal(got, whole) {
		t.Errorf("the first: %v, %v, %d bytes of %d", err, rerr, len(got), len(whole))
	}

	file += ".2"
	_, err = backUpInto(file, false, func(w io.Writer) error { writeFile(t, file, "mine"); return write(w) })
	if got, rerr := os.ReadFile(file); err == nil || rerr != nil || string(got) != "mine" {
		t.Errorf("a file made meanwhile: %v, %v, %d bytes", err, rerr, len(got))
	}
	writeFile(t, file+".3.partial", strings.Repeat("left by a backup that was killed", 10_000))
	if _, err := backUpInto(file+".3", false, write); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(file + ".3"); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("over what a killed one left: %v, %d bytes of %d", err, len(got), len(whole))
	}
}

// When the disk fills up during a backup or a restore, no part of its files stays.
func TestBackupAndRestoreOnAFullDisk(t *testing.T) {
	disk := testtools.SmallDisk(t, 1)
	noise := make([]byte, 2<<20)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(noise); i++ {
		noise[i] = byte(r.Uint32())
	}
	whole := writeArchive(t, map[string]string{"pulse.db": "state", "journal/jetstream/PULSE/streams/PULSE/msgs/1.blk": string(noise)})
	if _, err := backUpInto(filepath.Join(disk, "backup"), false, func(w io.Writer) error { _, err := w.Write(whole); return err }); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("backup: %v", err)
	}
	if _, err := restore(t.Context(), bytes.NewReader(whole), filepath.Join(disk, "data")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("restore: %v", err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
