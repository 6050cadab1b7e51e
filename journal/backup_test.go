package journal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// intoDir returns an AddFile that writes a backup's files to dir.
func intoDir(dir string) AddFile {
	return func(name string, size int64, content io.Reader) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if n, err := io.Copy(f, content); err != nil || n != size {
			return errors.Join(err, io.ErrUnexpectedEOF, f.Close())
		}
		return f.Close()
	}
}

// checkCopy opens a backup as a journal, checks that it has no gap, reads all of it and appends to
// it. It returns the state of the copy.
func checkCopy(t *testing.T, dir string) State {
	t.Helper()
	copied := open(t, Options{Dir: dir})
	state, err := copied.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report := copied.Report(); report.Gap != nil || report.Unreadable != "" || report.Created || report.Restored {
		t.Errorf("the copy opened with %+v", report)
	}
	if n := state.LastSeq - state.FirstSeq + 1; n > 0 {
		seqs, _ := readN(t, from1(t, copied, state.FirstSeq), int(n))
		if seqs[0] != state.FirstSeq || seqs[n-1] != state.LastSeq {
			t.Errorf("the copy has %d to %d, read as %d to %d", state.FirstSeq, state.LastSeq, seqs[0], seqs[n-1])
		}
	}
	if seq := appendN(t, copied, "after", 0, 1); seq != state.LastSeq+1 {
		t.Errorf("the copy went on with %d behind %d", seq, state.LastSeq)
	}
	closeJournal(t, copied)
	return state
}

// A backup that is made while others append opens as a journal without a gap, and holds at least
// the events up to the sequence that Backup returned.
func TestBackup(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "before", 0, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	for _, relay := range []string{"a", "b"} {
		load.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := j.Append(t.Context(), sample(relay, i)); err != nil {
					t.Errorf("appending during a backup: %v", err)
					return
				}
			}
		})
	}
	for range 3 {
		want := appendN(t, j, "before", 100, 1)
		dir := t.TempDir()
		last, err := j.Backup(t.Context(), intoDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		if state := checkCopy(t, dir); last < want || state.FirstSeq != 1 || state.LastSeq < last {
			t.Errorf("%d was durable, the backup said %d, the copy holds %d to %d", want, last, state.FirstSeq, state.LastSeq)
		}
	}
}

// If retention drops blocks during a backup, they are missing at the front of the copy: the copy
// has no gap.
func TestBackupWhileBlocksAreDropped(t *testing.T) {
	j := open(t, Options{MaxBytes: minMaxBytes, Sync: SyncEvery(time.Minute)})
	fill := func(from, n int) {
		for i := range n {
			e := sample("r", from+i)
			e.Collectors[0].Name = strings.Repeat("x", 500<<10)
			if _, err := j.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(0, 55)
	before, err := j.State(t.Context())
	if err != nil || before.FirstSeq != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	dir, blocks := t.TempDir(), 0
	put := intoDir(dir)
	last, err := j.Backup(t.Context(), func(name string, size int64, content io.Reader) error {
		if filepath.Ext(name) == ".blk" {
			if blocks++; blocks == 2 {
				fill(55, 45)
			}
		}
		return put(name, size, content)
	})
	if err != nil || last != before.LastSeq {
		t.Fatalf("%d, %v", last, err)
	}
	after, err := j.State(t.Context())
	if err != nil || after.FirstSeq == 1 {
		t.Fatalf("nothing was dropped: %+v, %v", after, err)
	}
	if state := checkCopy(t, dir); state.FirstSeq == 1 || state.FirstSeq > after.FirstSeq || state.LastSeq < last {
		t.Errorf("the copy holds %d to %d, the journal %d to %d", state.FirstSeq, state.LastSeq, after.FirstSeq, after.LastSeq)
	}
}

// A backup that cannot be completed is an error.
func TestBackupFails(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "web1", 0, 3)
	full := errors.New("no space")
	if _, err := j.Backup(t.Context(), func(string, int64, io.Reader) error { return full }); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Backup(ctx, intoDir(t.TempDir())); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := os.Rename(streamDir(j.o.Dir), streamDir(j.o.Dir)+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Backup(t.Context(), intoDir(t.TempDir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files that are gone: %v", err)
	}
	if err := os.Rename(streamDir(j.o.Dir)+".gone", streamDir(j.o.Dir)); err != nil {
		t.Fatal(err)
	}
}
