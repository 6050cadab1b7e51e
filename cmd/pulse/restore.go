package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nanopack/pulse/migrations"
)

const restoreHelp = `Make a data dir of a backup. It must not exist, or be empty: nothing is ever replaced, and
nothing is put in place before all of the backup has been checked. - reads standard input.`

// runRestore makes a data dir from a backup.
func runRestore(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("restore", restoreHelp, "PULSE", stdout, stderr)
	c.Argument = "FILE"
	dir := c.String("data-dir", "pulse-data", "Where to put it")
	if done, code := c.Begin(args); done {
		return code
	}
	from := io.Reader(os.Stdin)
	if c.Arg(0) != "-" {
		f, err := os.Open(c.Arg(0))
		if err != nil {
			return c.Failed(err)
		}
		defer f.Close()
		from = f
	}
	m, err := restore(ctx, from, *dir)
	if err != nil {
		return c.Failed(err)
	}
	return c.Write(func(w io.Writer) error { return printRestored(w, *dir, m) })
}

func printRestored(w io.Writer, dir string, m *manifest) error {
	_, err := fmt.Fprintf(w, "%s holds the backup of %s by pulse %s: %s\nStart it with: pulse -s --data-dir %s%s\n"+
		"A copy of an edge must not run beside the original under the same --edge-name.\n",
		dir, m.Created.Format(time.RFC3339), m.Pulse, m.summary(0), dir,
		map[bool]string{true: " --influx-address embedded"}[m.Influx])
	return err
}

// restore makes a data dir from an archive. It unpacks into a directory next to dir and renames
// that when everything is checked and on the disk.
func restore(ctx context.Context, from io.Reader, dir string) (_ *manifest, err error) {
	if err := wantEmpty(dir); err != nil {
		return nil, err
	}
	dir = filepath.Clean(dir)
	beside := dir + ".restoring"
	if err := os.Mkdir(beside, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is left of a restore that was cut short, or another is at work: remove it, or wait", beside)
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	m, err := readArchive(from, func(name string, size int64, content io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return unpack(filepath.Join(beside, filepath.FromSlash(name)), size, content)
	})
	if err != nil {
		return nil, err
	}
	// pulse.db is opened as a start opens it, so that one of a newer release is refused here and
	// not at the start.
	state, err := migrations.Open(beside, migrations.Options{})
	if err != nil {
		return nil, err
	}
	if err := state.Close(); err != nil {
		return nil, err
	}
	if err := syncDirs(beside); err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(beside, dir); err != nil {
		return nil, err
	}
	return m, fsyncDir(filepath.Dir(dir))
}

// wantEmpty fails if dir exists and is not empty.
func wantEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--data-dir: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("--data-dir: %s is not empty: a restore replaces nothing; move it away, or name another", dir)
	}
	return nil
}

// unpack writes one file and syncs it.
func unpack(path string, size int64, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	_, ours := errors.AsType[*fs.PathError](err) // of writing, not of reading
	switch {
	case ours:
	case err != nil:
		err = fmt.Errorf("%w (%w)", errNotWhole, err)
	case n != size:
		err = errNotWhole
	default:
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDirs makes the names of all files below a directory durable.
func syncDirs(top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return fsyncDir(path)
	})
}
