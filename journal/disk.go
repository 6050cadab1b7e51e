package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nanopack/pulse/internal/plainfile"
)

// statfs returns how many bytes of the filesystem below path are free for us, and how many it has.
func statfs(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return uint64(s.Bavail) * uint64(s.Bsize), uint64(s.Blocks) * uint64(s.Bsize), nil
}

// fsyncPath syncs a file or a directory.
func fsyncPath(path string) error { return syncPath(path, (*os.File).Sync) }

// syncPath syncs a file or a directory with fsync.
func syncPath(path string, fsync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = fsync(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// writeSynced writes a file and syncs it with fsync. A file that could not be written is removed.
func writeSynced(path string, content io.Reader, fsync func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = fsync(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// mkdirAll is os.MkdirAll against the server, which removes the empty directories above a stream
// that it dropped, in a goroutine that outlives its shutdown.
func mkdirAll(path string) error {
	var err error
	for range 10 {
		if err = os.MkdirAll(path, 0o700); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// moveAside renames from to a free name like to, making its directory.
func moveAside(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	to, err := freeName(to)
	if err != nil {
		return err
	}
	return os.Rename(from, to)
}

// freeName is path, or path.2, path.3 and so on if that is taken: what is named after the second
// may have had its like in the same one, and nothing is written over.
func freeName(path string) (string, error) {
	name := path
	for n := 2; ; n++ {
		switch _, err := os.Lstat(name); {
		case errors.Is(err, fs.ErrNotExist):
			return name, nil
		case err != nil:
			return "", err
		}
		name = fmt.Sprintf("%s.%d", path, n)
	}
}

// readable reads the file to its end.
func readable(path string) error {
	f, err := plainfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	_, err = io.Copy(io.Discard, f)
	return err
}

// stamp is a time for a file's name.
func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// syncTree syncs dir, everything in it but blocks (they are synced as they are written), and its
// parents up to top.
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

// failed reports whether an error is of the medium, and not one of this process, which says nothing
// about the file.
func failed(err error) bool {
	return err != nil && !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOMEM) &&
		!errors.Is(err, fs.ErrNotExist)
}
