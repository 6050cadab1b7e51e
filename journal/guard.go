package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// At its start the server deletes a stream of which it cannot read one block. So before every start the
// blocks are hard-linked aside, into the directory guard, which is removed when the stream turned out well.

func guardDir(dir string) string { return filepath.Join(dir, "guard") }

// linkAside links the blocks of the stream into the guard. Blocks that are there already, from a start that did
// not come to its end, stay if the stream has none of its own any more.
func linkAside(dir string) error {
	from, to := filepath.Join(streamDir(dir), "msgs"), guardDir(dir)
	list, err := listBlocks(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, n := range list {
		if err := os.Link(blockPath(from, n), blockPath(to, n)); err != nil {
			return err
		}
	}
	return nil
}

// guarded counts the blocks in the guard, and their bytes.
func guarded(dir string) (count int, size int64) {
	list, err := listBlocks(guardDir(dir))
	if err != nil {
		return 0, 0
	}
	for _, n := range list {
		if fi, err := os.Stat(blockPath(guardDir(dir), n)); err == nil {
			size += fi.Size()
		}
	}
	return len(list), size
}

// putBack makes the stream's directory anew from the guard's blocks that can be read. Those that cannot are
// moved to unreadable-<time>, where they stay. The server must be stopped.
func putBack(dir string, now time.Time) (unreadable string, restored int, err error) {
	list, err := listBlocks(guardDir(dir))
	if err != nil {
		return "", 0, err
	}
	// What the server left of the stream is not deleted: it is moved aside as well.
	aside := filepath.Join(dir, "unreadable-"+stamp(now))
	if _, err := os.Stat(streamDir(dir)); err == nil {
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return "", 0, err
		}
		if err := os.Rename(streamDir(dir), filepath.Join(aside, "stream")); err != nil {
			return "", 0, err
		}
		unreadable = aside
	}
	to := filepath.Join(streamDir(dir), "msgs")
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", 0, err
	}
	for _, n := range list {
		from := blockPath(guardDir(dir), n)
		if readable(from) == nil {
			if err := os.Link(from, blockPath(to, n)); err != nil {
				return unreadable, restored, err
			}
			restored++
			continue
		}
		unreadable = aside
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return "", restored, err
		}
		if err := os.Rename(from, blockPath(aside, n)); err != nil {
			return "", restored, err
		}
	}
	if restored == 0 {
		return unreadable, 0, fmt.Errorf("none of the %d blocks can be read", len(list))
	}
	return unreadable, restored, nil
}

// readable reads the file to its end.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	_, err = io.Copy(io.Discard, f)
	return err
}

// stamp is a time for a file's name.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// syncTree syncs dir, everything in it but blocks (they are synced as they are written), and its parents up to top.
func syncTree(dir, top string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) == ".blk" {
			return err
		}
		if d.IsDir() || d.Type().IsRegular() {
			return fsyncPath(path)
		}
		return nil
	})
	for err == nil && dir != top && len(dir) > len(top) {
		dir = filepath.Dir(dir)
		err = fsyncPath(dir)
	}
	if err == nil {
		err = fsyncPath(filepath.Dir(top))
	}
	return err
}
