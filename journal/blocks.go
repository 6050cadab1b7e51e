package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nanopack/pulse/internal/plainfile"
)

// blocks syncs the files to which the server appends. An acknowledged message is in the kernel's
// hands (the server writes each one before it acknowledges), in the last block or, when the batch
// went over its end, in the blocks before. Owned by the committer.
type blocks struct {
	dir   string
	fsync func(*os.File) error
	last  *os.File // the block that was the last; kept open, so that a write error since is reported
	index int
}

func blockPath(dir string, index int) string {
	return filepath.Join(dir, strconv.Itoa(index)+".blk")
}

// listBlocks returns the numbers of the blocks in dir, in order.
func listBlocks(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".blk"); ok {
			if n, err := strconv.Atoi(name); err == nil {
				list = append(list, n)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// sync makes everything that was acknowledged so far durable.
func (b *blocks) sync() error {
	if b.last == nil {
		return b.some(b.all(0))
	}
	if err := b.fsync(b.last); err != nil {
		return err
	}
	added := false
	for {
		f, err := plainfile.Open(blockPath(b.dir, b.index+1))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if err := b.fsync(f); err != nil {
			_ = f.Close()
			return err
		}
		_ = b.last.Close() // synced; nothing is written to it any more
		b.last, b.index, added = f, b.index+1, true
	}
	// The server removes blocks from the front only, and never replaces the last. Should ours be
	// gone all the same, the numbers may have a hole: look at all of them.
	if !b.current() {
		return b.some(b.all(b.index + 1))
	}
	if added {
		return b.syncDir()
	}
	return nil
}

// errNoBlock means that there is no file to which acknowledged messages could have been written.
var errNoBlock = errors.New("the journal's files are gone; somebody removed them while it was running")

// some is err, or errNoBlock when there is no block although something was stored.
func (b *blocks) some(err error) error {
	if err == nil && b.last == nil {
		return errNoBlock
	}
	return err
}

// current reports whether the open file is still the one with its name.
func (b *blocks) current() bool {
	have, err := b.last.Stat()
	if err != nil {
		return false
	}
	want, err := os.Stat(blockPath(b.dir, b.index))
	return err == nil && os.SameFile(have, want)
}

// all syncs every block from the given number on, and the directory.
func (b *blocks) all(from int) error {
	list, err := listBlocks(b.dir)
	if errors.Is(err, fs.ErrNotExist) {
		b.close()
		return nil // nothing was ever stored, or all of it was removed
	}
	if err != nil {
		return err
	}
	b.close()
	for i, n := range list {
		if n < from && i != len(list)-1 {
			continue
		}
		f, err := plainfile.Open(blockPath(b.dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped by retention meanwhile
		}
		if err != nil {
			return err
		}
		if err := b.fsync(f); err != nil {
			_ = f.Close()
			return err
		}
		b.close()
		b.last, b.index = f, n
	}
	return b.syncDir()
}

func (b *blocks) syncDir() error { return syncPath(b.dir, b.fsync) }

func (b *blocks) close() {
	if b.last != nil {
		_ = b.last.Close() // opened for reading
		b.last = nil
	}
}

// rewrite writes the newest blocks again, from what the kernel holds of them. After a failed fsync
// that may be more than the disk has, while the kernel takes it for clean and will not write it any
// more. Only while the server is stopped.
func (b *blocks) rewrite(from int) error {
	list, err := listBlocks(b.dir)
	if err != nil {
		return err
	}
	for _, n := range list {
		if n < from {
			continue
		}
		if err := b.copy(blockPath(b.dir, n)); err != nil {
			return err
		}
	}
	return b.syncDir()
}

func (b *blocks) copy(path string) error {
	in, err := plainfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // opened for reading
	fresh := path + ".rewrite"
	if err := writeSynced(fresh, in, b.fsync); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		_ = os.Remove(fresh)
		return err
	}
	return nil
}
