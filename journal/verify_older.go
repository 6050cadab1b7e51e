package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/retry"
)

// olderPause is the pause before each of the blocks that are verified after the start: some 30 MB a
// second, a twentieth of a core.
const olderPause = 250 * time.Millisecond

// doubtPath is a file that has the next start verify all blocks, and mend the damaged ones.
func doubtPath(dir string) string { return filepath.Join(dir, "doubt") }

func endDoubt(dir string) error {
	if err := os.Remove(doubtPath(dir)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// verifyOlder verifies the blocks that the start did not, all but the last of the list, while
// the server runs. The server has them open, so that a damaged one is kept and told, and mended by
// the next start.
func (j *Journal) verifyOlder(list []int) {
	defer j.wg.Done()
	v := newVerifier(j.o.Dir, j.o.Now(), j.o.fsync)
	for i := range len(list) - 1 {
		if !retry.Sleep(j.ctx, j.o.olderPause) {
			return
		}
		if err := j.verifyOne(&v, list, i); err != nil {
			j.log.Error("a block of the journal cannot be verified", "block", blockPath(v.msgs, list[i]), "err", err)
		}
	}
}

// verifyOne verifies block list[i], which is not the last.
func (j *Journal) verifyOne(v *verifier, list []int, i int) error {
	path := blockPath(v.msgs, list[i])
	state, err := j.State(j.ctx) // first: what retention drops while the block is read is not lost
	if err != nil {
		return err
	}
	s, data, err := scanFile(path, list[i])
	if errors.Is(err, fs.ErrNotExist) {
		return nil // retention dropped it
	}
	if err != nil {
		return err
	}
	v.first = state.FirstSeq
	// Retention cuts into the oldest block, and what the journal lost before is known.
	known := func(l Span) bool {
		return l.First == 0 || l.Last < max(l.First, state.FirstSeq) || j.losses.has(l.First) && j.losses.has(l.Last)
	}
	lost := slices.DeleteFunc(v.numbers(list, i, s), known)
	if len(lost) == 0 {
		cut := v.behind(list, i, s)
		if known(cut) {
			return nil
		}
		if state, err = j.State(j.ctx); err != nil { // retention may have dropped it since
			return err
		}
		if !known(cut) {
			j.tellLost(cut, state, "the server read a damaged block before it was verified, and cut it: the journal lost events")
		}
		return nil
	}
	if err := os.WriteFile(doubtPath(j.o.Dir), nil, 0o600); err != nil {
		return err
	}
	if err := mkdirAll(v.aside); err != nil {
		return err
	}
	// The server cuts it when it reads it.
	if err := v.write(filepath.Join(v.aside, filepath.Base(path)), data); err != nil {
		return err
	}
	for _, l := range lost {
		j.tellLost(l, state, "the journal lost events in a damaged block; the next start keeps what is intact behind them", "copy", v.aside)
	}
	return nil
}

// behind are the numbers between block list[i] and the next.
func (v *verifier) behind(list []int, i int, s blockScan) Span {
	path := blockPath(v.msgs, list[i+1])
	first, ok, err := firstEvent(path)
	if err != nil || !ok || s.last == 0 || first.seq == s.last+1 {
		return Span{}
	}
	// The number may be damaged: what counts is the first event with the right checksum.
	next, _, err := scanFile(path, list[i+1])
	if err != nil || next.first == 0 {
		return Span{}
	}
	return Span{s.last + 1, next.first - 1}
}

func (j *Journal) tellLost(l Span, now State, msg string, args ...any) {
	gap := &GapError{From: max(l.First, now.FirstSeq), To: l.Last, Reason: GapLost}
	j.log.Error(msg, append([]any{"from", gap.From, "to", gap.To, "events", gap.Missing()}, args...)...)
	j.losses.add(gap.From, gap.To, gap.Reason, j.o.Now())
}
