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

	"github.com/nanopack/pulse/internal/plainfile"
)

// linksDir is where the blocks are hard-linked to before every start of the server, which deletes a
// stream of which it cannot read one block. The directory is removed when the server has opened the
// stream.
func linksDir(dir string) string { return filepath.Join(dir, "guard") }

// linkBlocks hard-links the blocks of the stream to linksDir. Before that it verifies the blocks
// that the server would cut where they are damaged. A block that gives an error is moved to
// unreadable-<time> first: with that block the server may delete the stream, without it the server
// opens the rest. Whatever is neither a file nor a directory is moved too: to open a pipe waits for
// ever. Two things are errors here, because people can mend them without a loss: a missing
// permission, and no space for the intact events of a damaged block.
func linkBlocks(dir string, now time.Time, fsync func(*os.File) error, of scope) (found verified, err error) {
	from, to := filepath.Join(streamDir(dir), "msgs"), linksDir(dir)
	special, err := moveSpecial(dir, now)
	if err != nil {
		return found, err
	}
	list, err := listBlocks(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return verified{aside: special, special: special != ""}, nil // the links of a start that did not come to its end stay
	}
	if err != nil {
		return found, err
	}
	// A start that did not come to its end may have left some of the blocks only: killed while the
	// server deleted the stream, or while putBack put it back. The others are linked. What
	// retention had dropped is dropped again.
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

// moveSpecial moves aside whatever in the server's directory is neither a file nor a directory. It
// returns where to, "" if there was none.
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

// complete links blocks from links into msgs that msgs does not have, and returns all blocks of
// msgs.
func complete(msgs, links string, list []int) ([]int, error) {
	old, err := listBlocks(links)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, n := range old {
		if err := os.Link(blockPath(links, n), blockPath(msgs, n)); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return listBlocks(msgs)
}

// linkError is a filesystem without hard links: the journal is opened without the links.
type linkError struct{ err error }

func (e *linkError) Error() string { return e.err.Error() }
func (e *linkError) Unwrap() error { return e.err }

// stored is an event's sequence number and when the server stored it.
type stored struct {
	seq uint64
	at  time.Time
}

// firstEvent reads what a block tells of its first event, at the beginning of its record (scan.go).
// ok is false for a block without an event.
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

// behindUnreadable finds where reading can go on when the block that holds seq, or those after it,
// give an error: at the first record of the first readable block after it. ok is false when nothing
// there gives an error, or when nothing follows.
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

// linkedBlocks counts the blocks in linksDir, and their bytes.
func linkedBlocks(dir string) (count int, size int64) {
	list, err := listBlocks(linksDir(dir))
	if err != nil {
		return 0, 0
	}
	for _, n := range list {
		if fi, err := os.Stat(blockPath(linksDir(dir), n)); err == nil {
			size += fi.Size()
		}
	}
	return len(list), size
}

// putBack makes the stream's directory again from the hard links of the blocks that can be read.
// The other blocks are moved to unreadable-<time>, where they stay. The server must be stopped.
func putBack(dir string, now time.Time) (unreadable string, restored int, err error) {
	list, err := listBlocks(linksDir(dir))
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
		from := blockPath(linksDir(dir), n)
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
