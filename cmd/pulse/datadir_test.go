package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/command"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestDamagedDataDir starts pulse on data dirs with every kind of damage. Pulse ends with exit code
// 1 and one line that names the file or flag and says what to do. It changes nothing.
func TestDamagedDataDir(t *testing.T) {
	whole := filledDataDir(t)
	blocks := filepath.Join("journal", "jetstream", "PULSE", "streams", "PULSE", "msgs", "*.blk")
	for _, test := range []struct {
		name   string
		file   string // the damaged file
		damage damage
		nobody bool // run as the user nobody
		want   []string
	}{
		{"state empty", "pulse.db", overwrite("pulse.db", nil), false, []string{"--data-dir", "pulse.db", "damaged", "it is empty", "restore it from a backup, or move it away"}},
		{"state cut", "pulse.db", cutFile("pulse.db"), false, []string{"--data-dir", "pulse.db", "damaged", "cut off", "restore it from a backup, or move it away"}},
		{"state noise", "pulse.db", overwrite("pulse.db", noise(64<<10)), false, []string{"--data-dir", "pulse.db", "damaged", "no bbolt database", "move it away"}},
		{"state is text", "pulse.db", overwrite("pulse.db", []byte("hello\n")), false, []string{"--data-dir", "pulse.db", "damaged", "move it away"}},
		{"state garbled", "pulse.db", garble("pulse.db"), false, []string{"--data-dir", "pulse.db", "damaged", "move it away"}},
		{"state of another program", "pulse.db", foreignState, false, []string{"--data-dir", "pulse.db", "not pulse's", "name another directory"}},
		{"state of a newer pulse", "pulse.db", newerState, false, []string{"--data-dir", "pulse.db", "newer pulse", "run that one"}},
		{"state is a directory", "pulse.db", replaceByDir("pulse.db"), false, []string{"--data-dir", "pulse.db", "not a regular file", "move it away"}},
		{"state is a dangling link", "pulse.db", dangle("pulse.db"), false, []string{"--data-dir", "pulse.db", "link to nowhere", "remove it"}},
		{"state not readable", "pulse.db", forbid("pulse.db"), true, []string{"--data-dir", "pulse.db", "permission denied"}},
		{"data dir not readable", ".", forbid("."), true, []string{"--data-dir", "permission denied"}},
		{"data dir is a file", ".", replaceByFile("."), false, []string{"--data-dir", "not a directory"}},
		{"journal missing", "journal", remove("journal"), false, []string{"journal is gone", "journal", "from a backup", "--journal-set-aside"}},
		{"journal empty", "journal", emptied("journal"), false, []string{"journal is gone", "journal", "from a backup", "--journal-set-aside"}},
		{"journal is a file", "journal", replaceByFile("journal"), false, []string{"journal", "not a directory"}},
		{"journal of another pulse", "journal", otherJournal, false, []string{"another journal", "--journal-set-aside"}},
		{"journal not readable", "journal", forbid("journal"), true, []string{"journal", "permission denied"}},
		{"journal's blocks not readable", "journal", forbid(blocks), true, []string{"journal", "permission denied"}},
		{"influx is a file", "influx", replaceByFile("influx"), false, []string{"--influx-address", "influx", "not a directory"}},
		{"influx not readable", "influx", forbid("influx"), true, []string{"--influx-address", "influx", "permission denied"}},
		{"certificate noise", "tls", overwrite("tls/cert.pem", noise(100)), false, []string{"--tls-cert", "cert.pem", "key.pem", "remove both"}},
		{"state is a pipe", "pulse.db", replaceByPipe("pulse.db"), false, []string{"--data-dir", "pulse.db", "not a regular file", "move it away"}},
		{"certificate is a pipe", "tls", replaceByPipe("tls/cert.pem"), false, []string{"--tls-cert", "cert.pem", "not a plain file", "remove both"}},
		{"key is a pipe", "tls", replaceByPipe("tls/key.pem"), false, []string{"--tls-cert", "key.pem", "not a plain file", "remove both"}},
		{"certificate empty", "tls", overwrite("tls/cert.pem", nil), false, []string{"--tls-cert", "cert.pem", "key.pem", "remove both"}},
		{"key missing", "tls", remove("tls/key.pem"), false, []string{"--tls-cert", "cert.pem", "key.pem", "remove both"}},
		{"key noise", "tls", overwrite("tls/key.pem", noise(100)), false, []string{"--tls-cert", "cert.pem", "key.pem", "remove both"}},
		{"key of another certificate", "tls", func(t *testing.T, dir string) {
			other := t.TempDir()
			if err := selfsigned.Make(filepath.Join(other, "cert.pem"), filepath.Join(other, "key.pem"), "pulse"); err != nil {
				t.Fatal(err)
			}
			copyFile(t, filepath.Join(other, "key.pem"), filepath.Join(dir, "tls", "key.pem"))
		}, false, []string{"--tls-cert", "cert.pem", "key.pem", "remove both"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			test.damage(t, dir)
			damaged := filepath.Join(dir, test.file)
			before := contents(t, damaged)
			line := refusal(t, dir, test.nobody)
			for _, want := range test.want {
				if !strings.Contains(line, want) {
					t.Errorf("the line does not say %q: %s", want, line)
				}
			}
			if after := contents(t, damaged); !maps.Equal(before, after) {
				t.Errorf("files changed: %s", difference(after, before))
			}
		})
	}
}

// refusal starts pulse on a data dir and returns the one line that pulse ends with.
func refusal(t *testing.T, dir string, nobody bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	binary := os.Args[0]
	var attributes *syscall.SysProcAttr
	if nobody && os.Geteuid() == 0 {
		attributes = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		binary = filepath.Join(t.TempDir(), "pulse") // a directory where everybody may execute it
		if os.Link(os.Args[0], binary) != nil {      // it is on another file system
			copyFile(t, os.Args[0], binary)
		}
		if err := os.Chmod(binary, 0o755); err != nil {
			t.Fatal(err)
		}
		openToAll(t, filepath.Dir(filepath.Dir(binary)))
	}
	cmd := exec.CommandContext(ctx, binary, "-s", "-H", "127.0.0.1:0", "-S", "127.0.0.1:0", "--nats-listen-address", "", "--influx-address", "embedded", "--insecure=false", "--data-dir", dir)
	cmd.Env = append(os.Environ(), runAsPulse+"=1")
	cmd.SysProcAttr = attributes
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != command.ExitFailure || stdout.Len() > 0 {
		t.Errorf("it ended with %v, want exit code %d; stdout %q", err, command.ExitFailure, stdout.String())
	}
	var lines []string
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "time=") { // not a line of the log
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "pulse: ") {
		t.Fatalf("stderr is not one line: %q", stderr.String())
	}
	return lines[0]
}

// filledDataDir returns the data dir of a server that ran for a while and was stopped.
func filledDataDir(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := newServer(t, dir, append(args, "--influx-address", "embedded", "-p", "1", "-l", "WARN")...)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fleet := relaytest.NewFleet(relaytest.FleetOptions{Addr: s.RelayAddr, N: 20})
	defer fleet.Stop()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitPolls(t, s, fleet, 40)
	stopProjected(t, s)
	tls := filepath.Join(dir, "tls")
	if err := selfsigned.Make(filepath.Join(tls, "cert.pem"), filepath.Join(tls, "key.pem"), "pulse"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// contents returns all files below dir (or dir itself, if it is a file) with their contents, except
// the locks.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // the missing file is the damage
		case err != nil:
			return err
		case d.Name() == "guard": // links to the journal's files
			return filepath.SkipDir
		case d.IsDir() || d.Name() == "lock":
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			files[path] = "-> " + target
			return err
		case !d.Type().IsRegular(): // reading a pipe would wait for ever
			files[path] = d.Type().String()
			return nil
		}
		data, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%d bytes, %x", len(data), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// These functions damage a data dir.

func matching(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return paths
}

type damage = func(t *testing.T, dir string)

func each(pattern string, change func(path string) error) damage {
	return func(t *testing.T, dir string) {
		for _, path := range matching(t, dir, pattern) {
			if err := change(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	x := uint32(1)
	for i := range data {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	return data
}

func overwrite(pattern string, data []byte) damage {
	return each(pattern, func(path string) error { return os.WriteFile(path, data, 0o600) })
}

func cutFile(pattern string) damage {
	return each(pattern, func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	})
}

// garble overwrites a file except its first two pages, which identify the file.
func garble(pattern string) damage {
	return each(pattern, func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			_, err = f.WriteAt(noise(int(info.Size())-2*os.Getpagesize()), 2*int64(os.Getpagesize()))
		}
		return errors.Join(err, f.Close())
	})
}

func remove(pattern string) damage { return each(pattern, os.RemoveAll) }

func emptied(pattern string) damage { return replaceByDir(pattern) }

func replaceByDir(pattern string) damage {
	return each(pattern, func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) })
}

func replaceByFile(pattern string) damage {
	return each(pattern, func(path string) error {
		return errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte("x"), 0o600))
	})
}

func replaceByPipe(pattern string) damage {
	return each(pattern, func(path string) error { return errors.Join(os.RemoveAll(path), unix.Mkfifo(path, 0o600)) })
}

func dangle(pattern string) damage {
	return each(pattern, func(path string) error { return errors.Join(os.RemoveAll(path), os.Symlink("nowhere", path)) })
}

// forbid makes the user nobody the owner of the data dir, except of the files that match pattern.
func forbid(pattern string) damage {
	return func(t *testing.T, dir string) {
		forbidden := matching(t, dir, pattern)
		if os.Geteuid() != 0 {
			for _, path := range forbidden {
				t.Cleanup(func() { _ = os.Chmod(path, 0o700) }) // so that it can be removed
				if err := os.Chmod(path, 0); err != nil {
					t.Fatal(err)
				}
			}
			return
		}
		openToAll(t, filepath.Dir(dir))
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if slices.ContainsFunc(forbidden, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") }) {
				return os.Chmod(path, 0o700)
			}
			return os.Chown(path, 65534, 65534)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// openToAll lets all users enter a directory of the test and its parents.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for ; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func foreignState(t *testing.T, dir string) {
	path := filepath.Join(dir, "pulse.db")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	editState(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("grocery list")); return err })
}

func newerState(t *testing.T, dir string) {
	editState(t, filepath.Join(dir, "pulse.db"), func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte("999"))
	})
}

func editState(t *testing.T, path string, edit func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(edit), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// otherJournal replaces the journal by that of another installation.
func otherJournal(t *testing.T, dir string) {
	other := filledDataDir(t)
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "journal")), os.Rename(filepath.Join(other, "journal"), filepath.Join(dir, "journal"))); err != nil {
		t.Fatal(err)
	}
}
