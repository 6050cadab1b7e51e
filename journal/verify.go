package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nanopack/pulse/internal/plainfile"
)

// The server cuts a block in place where a record is damaged, and with it every intact event after
// the damage: at its start when its index is not current, else when the block is read. So before
// every start the newest blocks are verified, and all of them when the server would read all. A
// damaged block is written again without what is damaged; the old file stays in unreadable-<time>.

// verifyBytes is how much of the journal is verified at every start: a third of a second's work.
const verifyBytes = 256 << 20

// scope is what a start verifies although the index is current.
type scope struct {
	bytes     int64         // of the newest blocks
	retention time.Duration // of the stream: the server reads the block that it cuts into
}

// recentPast is more than the server reads back at its start.
const recentPast = 10 * duplicateWindow

// indexFile is the server's index of the blocks. It is current after a clean stop.
const indexFile = "index.db"

// verified is what verify found and did.
type verified struct {
	lost    []Span // the numbers of damaged events; a last of 0: up to the journal's end
	aside   string // the directory with the damaged blocks as they were, "" if there are none
	special bool   // something in it is a pipe, or something else that is no file
	// mended counts the blocks that were written again.
	mended int
	// older are the blocks that were not verified, and the one behind them.
	older []int
}

// verify checks the newest blocks, and all blocks when the server would read all, and mends the
// damaged ones. The server must be stopped. blocks are in order; one that gives an error is left to
// the caller's other checks. All blocks are checked when a run found a damaged one.
func verify(dir string, blocks []int, now time.Time, fsync func(*os.File) error, of scope) (verified, error) {
	v := newVerifier(dir, now, fsync)
	if len(blocks) == 0 {
		return v.found, nil
	}
	begin, cut := 0, 0
	_, err := os.Lstat(doubtPath(dir))
	doubt := err == nil
	if last := len(blocks) - 1; v.indexed(blocks[last]) && !doubt {
		begin = v.newest(blocks, of.bytes)
		cut = v.before(blocks[:begin], time.Now().Add(-of.retention)) // the system's clock is the server's
	}
	if err := v.blocks(blocks, max(0, cut-1), cut); err != nil {
		return v.found, err
	}
	if err := v.blocks(blocks, begin, len(blocks)); err != nil {
		return v.found, err
	}
	if v.found.mended == 0 {
		v.found.older = blocks[:begin+1]
		return v.found, endDoubt(dir)
	}
	// The index describes the blocks as they were. Without it the server reads all of them.
	if err := v.blocks(blocks, 0, cut-1); err != nil {
		return v.found, err
	}
	if err := v.blocks(blocks, cut, begin); err != nil {
		return v.found, err
	}
	if err := os.Remove(filepath.Join(v.msgs, indexFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v.found, err
	}
	if err := syncPath(v.msgs, v.fsync); err != nil {
		return v.found, err
	}
	return v.found, endDoubt(dir)
}

type verifier struct {
	msgs, aside string
	fsync       func(*os.File) error
	found       verified
	first       uint64 // the journal's first event by its index, 0 if there is none that is current
}

func newVerifier(dir string, now time.Time, fsync func(*os.File) error) verifier {
	return verifier{msgs: filepath.Join(streamDir(dir), "msgs"), aside: unreadableDir(dir, now), fsync: fsync}
}

// indexed reports whether the server will take its index for current: it is whole, and its last
// checksum is that of the last block. The index ends with that checksum and with one of its own.
func (v *verifier) indexed(last int) bool {
	index, err := os.ReadFile(filepath.Join(v.msgs, indexFile))
	if err != nil || len(index) < 4*recordSum {
		return false
	}
	body, sum := index[:len(index)-recordSum], index[len(index)-recordSum:]
	key := sha256.Sum256([]byte(StreamName))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return false
	}
	h.Write(body)
	if !bytes.Equal(h.Sum(nil), sum) {
		return false
	}
	f, err := plainfile.Open(blockPath(v.msgs, last))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // opened for reading
	info, err := f.Stat()
	if err != nil || info.Size() < recordSum {
		return false
	}
	v.first = firstOfIndex(body)
	var end [recordSum]byte
	_, err = f.ReadAt(end[:], info.Size()-recordSum)
	return err == nil && bytes.Equal(end[:], body[len(body)-recordSum:])
}

// firstOfIndex reads the number of the first event: after two bytes, an index begins with how many
// events there are, their bytes, and that number.
func firstOfIndex(index []byte) (first uint64) {
	at := 2
	for range 3 {
		number, n := binary.Uvarint(index[min(at, len(index)):])
		if n <= 0 {
			return 0
		}
		first, at = number, at+n
	}
	return first
}

// newest returns the index of the first of the newest blocks that are verified: as many as have a
// size in all, at least one, and those with events of the recent past, which are many when the
// clock was set back.
func (v *verifier) newest(list []int, size int64) int {
	begin := len(list) - 1
	for at := begin; at >= 0 && size > 0; at-- {
		begin = at
		if info, err := os.Stat(blockPath(v.msgs, list[at])); err == nil {
			size -= info.Size()
		}
	}
	// A block's last event is about as old as the first one of the block behind it.
	return min(begin, max(0, v.before(list, time.Now().Add(-recentPast))-1))
}

// before counts the blocks up to the first one that does not begin before t.
func (v *verifier) before(list []int, t time.Time) int {
	at := slices.IndexFunc(list, func(n int) bool {
		first, ok, err := firstEvent(blockPath(v.msgs, n))
		return err == nil && ok && !first.at.Before(t)
	})
	if at < 0 {
		return len(list)
	}
	return at
}

// blocks verifies list[from:to].
func (v *verifier) blocks(list []int, from, to int) error {
	for i := from; i < to; i++ {
		path := blockPath(v.msgs, list[i])
		s, data, err := scanFile(path, list[i])
		if err != nil && !failed(err) {
			return err
		}
		if err != nil {
			continue // linkBlocks and the server say what is wrong with it
		}
		if len(s.lost) == 0 && !s.inside {
			continue
		}
		v.found.lost = append(v.found.lost, v.numbers(list, i, s)...)
		if err := v.mend(path, data, s); err != nil {
			return err
		}
	}
	return nil
}

// numbers are the lost numbers of block list[i], as far as the blocks beside it say where they
// begin and end.
func (v *verifier) numbers(list []int, i int, s blockScan) []Span {
	all := make([]Span, len(s.lost))
	for k, lost := range s.lost {
		if lost.First == 0 && i == 0 {
			lost.First = v.first
		}
		if lost.First == 0 && i > 0 {
			if before, _, err := scanFile(blockPath(v.msgs, list[i-1]), list[i-1]); err == nil {
				lost.First = after(before.last)
			}
		}
		if lost.Last == 0 && i+1 < len(list) {
			if next, ok, err := firstEvent(blockPath(v.msgs, list[i+1])); err == nil && ok {
				lost.Last = next.seq - 1
			}
		}
		all[k] = lost
	}
	return all
}

// scanFile reads and scans block n.
func scanFile(path string, n int) (blockScan, []byte, error) {
	f, err := plainfile.Open(path)
	if err != nil {
		return blockScan{}, nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	data, err := io.ReadAll(f)
	if err != nil {
		return blockScan{}, nil, err
	}
	sum, err := blockHash(n)
	if err != nil {
		return blockScan{}, nil, err
	}
	return scanBlock(data, sum), data, nil
}

// mend keeps the block as it is in the directory aside, and writes it again without what is damaged
// when intact records follow after that. A damaged tail is left to the server, which cuts it and
// remembers the numbers.
func (v *verifier) mend(path string, data []byte, s blockScan) error {
	if err := mkdirAll(v.aside); err != nil {
		return err
	}
	keep, err := freeName(filepath.Join(v.aside, filepath.Base(path)))
	if err != nil {
		return err
	}
	v.found.aside = v.aside
	if !s.inside {
		return v.write(keep, data) // a copy: the server cuts the file in place
	}
	if err := os.Link(path, keep); err != nil {
		if err := v.write(keep, data); err != nil { // a filesystem without hard links
			return err
		}
	}
	intact := make([]byte, 0, len(data))
	for _, r := range s.records {
		intact = append(intact, data[r.from:r.to]...)
	}
	intact = append(intact, data[s.tail:]...)
	fresh := path + ".rewrite"
	if err := v.write(fresh, intact); err != nil {
		return err
	}
	v.found.mended++
	return os.Rename(fresh, path)
}

func (v *verifier) write(path string, data []byte) error {
	if err := writeSynced(path, bytes.NewReader(data), v.fsync); err != nil {
		return &mendError{path, err}
	}
	return nil
}

// mendError means that a damaged block could not be kept: the journal is not opened, because the
// server would cut it.
type mendError struct {
	path string
	err  error
}

func (e *mendError) Error() string {
	return fmt.Sprintf("a block is damaged, and its intact events cannot be kept in %s (make room, or mend that): %v",
		e.path, e.err)
}
func (e *mendError) Unwrap() error { return e.err }
