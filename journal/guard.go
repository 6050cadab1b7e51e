package journal

import (
	"cmp"
	"encoding/binary"
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

// At its start the server deletes a stream of which it cannot read one block. So before every start the
// blocks are hard-linked aside, into the directory guard, which is removed when the stream turned out well.

func guardDir(dir string) string { return filepath.Join(dir, "guard") }

// linkAside links the blocks of the stream into the guard, after it verified those that the server would cut where they
// are damaged. A block that gives an error is moved to unreadable-<time> first: without it the server opens the rest, with
// it it may delete all. The same happens to whatever is neither a file nor a directory: to open a pipe waits for ever.
// Only a missing permission is an error here, because that can be mended without a loss, and a damaged block for whose
// intact events there is no space.
func linkAside(dir string, now time.Time, fsync func(*os.File) error, of scope) (found verified, err error) {
	from, to := filepath.Join(streamDir(dir), "msgs"), guardDir(dir)
	special, err := moveSpecial(dir, now)
	if err != nil {
		return found, err
	}
	list, err := listBlocks(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return verified{aside: special, special: special != ""}, nil // a guard of a start that did not come to its end stays
	}
	if err != nil {
		return found, err
	}
	// A start that did not come to its end may have left some of the blocks only: killed while the server deleted the
	// stream, or while putBack put it back. The guard has the others. What retention dropped goes again.
	if list, err = complete(from, to, list); err != nil {
		return found, err
	}
	if found, err = verify(dir, list, now, fsync, of); err != nil {
		return found, err
	}
	found.aside, found.special = cmp.Or(found.aside, special), special != ""
	if err := os.RemoveAll(to); err != nil {
		return found, err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return found, err
	}
	for _, n := range list {
		path := blockPath(from, n)
		if _, _, err := firstEvent(path); err != nil {
			if errors.Is(err, fs.ErrPermission) || !failed(err) {
				return found, err
			}
			found.aside = unreadableDir(dir, now)
			if err := moveAside(path, blockPath(found.aside, n)); err != nil {
				return found, err
			}
			continue
		}
		if err := os.Link(path, blockPath(to, n)); err != nil {
			return found, &linkError{err}
		}
	}
	return found, nil
}

// unreadableDir is where damaged files go that are found at now.
func unreadableDir(dir string, now time.Time) string {
	return filepath.Join(dir, "unreadable-"+stamp(now))
}

// moveSpecial moves aside whatever in the server's directory is neither a file nor a directory. It returns where to, ""
// if there was none.
func moveSpecial(dir string, now time.Time) (aside string, err error) {
	top := filepath.Join(dir, "jetstream")
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || d.Type().IsRegular()) {
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode().IsRegular() {
			return nil // a link, to a file on another disk perhaps
		}
		aside = unreadableDir(dir, now)
		return moveAside(path, filepath.Join(aside, filepath.Base(path)))
	})
	return aside, err
}

// complete links the blocks of an old guard into msgs that are not there, and returns all of msgs' blocks.
func complete(msgs, guard string, list []int) ([]int, error) {
	old, err := listBlocks(guard)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range old {
		if err := os.Link(blockPath(guard, n), blockPath(msgs, n)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return listBlocks(msgs)
}

// linkError is a filesystem without hard links: the journal is opened without a guard.
type linkError struct{ err error }

func (e *linkError) Error() string { return e.err.Error() }
func (e *linkError) Unwrap() error { return e.err }

// stored is an event's sequence number and when the server stored it.
type stored struct {
	seq uint64
	at  time.Time
}

// firstEvent reads what a block tells of its first event, at the beginning of its record (scan.go). ok is false for a block
// without an event.
func firstEvent(path string) (first stored, ok bool, err error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return first, false, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	var head [recordHead - 2]byte
	for at := int64(0); ; {
		switch _, err := f.ReadAt(head[:], at); {
		case errors.Is(err, io.EOF):
			return first, false, nil
		case err != nil:
			return first, false, err
		}
		size, seq := binary.LittleEndian.Uint32(head[:])&^lengthHeaders, binary.LittleEndian.Uint64(head[4:])
		if seq&numberDeletion == 0 {
			return stored{seq, time.Unix(0, int64(binary.LittleEndian.Uint64(head[12:])))}, true, nil
		}
		at += max(int64(size), int64(len(head)))
	}
}

// behindUnreadable finds where reading can go on when the block that holds seq, or those after it, give an error:
// at the first record of the first readable block behind. ok is false when nothing there gives an error, or when
// there is nothing behind.
func behindUnreadable(msgs string, seq uint64) (next uint64, ok bool) {
	list, err := listBlocks(msgs)
	if err != nil {
		return 0, false
	}
	broken := false
	for _, n := range list {
		path := blockPath(msgs, n)
		first, has, err := firstEvent(path)
		switch {
		case err == nil && !has:
		case err == nil && first.seq > seq:
			if broken {
				return first.seq, true
			}
			return 0, false
		case err == nil: // begins at seq or before: it may hold it
			broken = failed(readable(path))
		default:
			broken = broken || failed(err)
		}
	}
	return 0, false
}

// failed tells an error of the medium from one of this process, which says nothing about the file.
func failed(err error) bool {
	return err != nil && !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOMEM) &&
		!errors.Is(err, fs.ErrNotExist)
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
	aside := unreadableDir(dir, now)
	if _, err := os.Stat(streamDir(dir)); err == nil {
		if err := moveAside(streamDir(dir), filepath.Join(aside, "stream")); err != nil {
			return "", 0, err
		}
		unreadable = aside
	}
	to := filepath.Join(streamDir(dir), "msgs")
	if err := mkdirAll(to); err != nil {
		return "", 0, err
	}
	for _, n := range list {
		from := blockPath(guardDir(dir), n)
		err := readable(from)
		if err != nil && !failed(err) {
			return unreadable, restored, err
		}
		if err == nil {
			if err := os.Link(from, blockPath(to, n)); err != nil {
				return unreadable, restored, err
			}
			restored++
			continue
		}
		unreadable = aside
		if err := moveAside(from, blockPath(aside, n)); err != nil {
			return "", restored, err
		}
	}
	if restored == 0 {
		return unreadable, 0, fmt.Errorf("none of the %d blocks can be read", len(list))
	}
	return unreadable, restored, nil
}

// mkdirAll is os.MkdirAll against the server, which removes the empty directories above a stream that it
// dropped, in a goroutine that outlives its shutdown.
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

// freeName is path, or path.2, path.3 and so on if that is taken: what is named after the second may have had its
// like in the same one, and nothing is written over.
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
