package journal

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/nanopack/pulse/internal/plainfile"
)

// AddFile takes one file of a backup: its name below the journal's directory, with slashes, its
// size in bytes, and its content, which is read to the end before it returns.
type AddFile func(name string, size int64, content io.Reader) error

// Backup hands the journal's files to add, complete up to the newest durable event at the moment of
// the call, while appending and reading go on. Put in place of an empty directory they open as a
// journal that was killed then: what comes after that moment is in it in part, or not at all.
// Consumers of other programs are left out, and so is the server's index, which it makes again.
//
// The server only appends to its blocks, replaces one by renaming, and removes them from the front.
// So a block is whole up to the size that it had when it was opened. The newest goes first: one
// that is gone was dropped by retention, and so was everything before it.
//
// It returns the newest event that is certainly in the backup. It stops when ctx ends or add fails.
func (j *Journal) Backup(ctx context.Context, add AddFile) (last uint64, err error) {
	last, _, _ = j.durable.get()
	if err := j.backup(ctx, add); err != nil {
		return 0, &Error{Op: "backup", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	return last, nil
}

func (j *Journal) backup(ctx context.Context, add AddFile) error {
	const stream = "jetstream/PULSE/streams/PULSE/"
	dir := streamDir(j.o.Dir)
	for _, name := range []string{"meta.inf", "meta.sum"} {
		if err := addFile(filepath.Join(dir, name), stream+name, add); err != nil {
			return err
		}
	}
	// Listed after the mark was read: what it covers is in these blocks.
	list, err := listBlocks(filepath.Join(dir, "msgs"))
	for i := len(list) - 1; i >= 0 && err == nil; i-- {
		if err = ctx.Err(); err == nil {
			path := blockPath(filepath.Join(dir, "msgs"), list[i])
			err = addFile(path, stream+"msgs/"+filepath.Base(path), add)
		}
		if errors.Is(err, fs.ErrNotExist) && i < len(list)-1 {
			return nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) && len(list) == 0 {
		return nil // nothing was ever stored
	}
	return err
}

// addFile adds a file as large as it is when it is opened.
func addFile(path, name string, add AddFile) error {
	f, err := plainfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return add(name, info.Size(), io.LimitReader(f, info.Size()))
}
