package journal

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// noFiles takes away the process's file descriptors and gives them back, again and again until end
// is called, like a process near its limit. It may be used only in a process of its own.
func noFiles(t *testing.T) (end func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	none := syscall.Rlimit{Cur: 3, Max: old.Max}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, limit := range []syscall.Rlimit{none, old} {
				if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
					t.Error(err)
				}
				for begin := time.Now(); time.Since(begin) < 20*time.Microsecond; { // not a wait: this is the disturbance
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(end)
	return end
}

// onBlock reports whether err is a lack of descriptors at the file of a block.
func onBlock(err error) bool {
	var path *os.PathError
	return errors.Is(err, syscall.EMFILE) && errors.As(err, &path) && filepath.Ext(path.Path) == ".blk"
}

// A lack of file descriptors does not mean that a block is damaged: no block is moved aside, and
// the journal is not reported as damaged.
func TestTooManyOpenFiles(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	dir, _, _ := prepare(t, true)
	end := noFiles(t)
	deadline := time.Now().Add(5 * time.Minute)
	try := func(what string, f func() (unreadable string, err error)) {
		for met := 0; met < 5; {
			unreadable, err := f()
			if unreadable != "" {
				t.Fatalf("%s moved a good block to %s", what, unreadable)
			}
			if onBlock(err) {
				met++
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s met the limit at a block only %d times, the last error is %v", what, met, err)
			}
		}
	}
	now := time.Now()
	try("linkBlocks", func() (string, error) {
		found, err := linkBlocks(dir, now, (*os.File).Sync, scope{bytes: verifyBytes})
		return found.aside, err
	})
	end()
	if _, err := linkBlocks(dir, now, (*os.File).Sync, scope{bytes: verifyBytes}); err != nil {
		t.Fatal(err)
	}
	noFiles(t)
	try("putBack", func() (string, error) {
		if err := os.RemoveAll(streamDir(dir)); err != nil {
			return "", err // as the server does; RemoveAll may lack descriptors too
		}
		if _, err := os.Stat(streamDir(dir)); err == nil {
			return "", nil
		}
		unreadable, _, err := putBack(dir, now)
		return unreadable, err
	})
}

// With too few file descriptors, from none on, Open either fails and leaves the journal in its
// place, or opens it.
func TestOpenWithFewFiles(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	dir, marker, _ := prepare(t, true)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	used, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	opened := false
	for more := 0; !opened; more++ {
		limit := syscall.Rlimit{Cur: uint64(len(used) + more), Max: old.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		j, err := tryOpen(t, Options{Dir: dir, Marker: marker, SetAside: true})
		if lifted := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); lifted != nil {
			t.Fatal(lifted)
		}
		if err != nil {
			if !errors.Is(err, ErrServer) {
				t.Fatalf("with %d descriptors: %v", more, err)
			}
			continue
		}
		opened = true
		if n, gaps := contents(t, j, 1); n != damageEvents || len(gaps) != 0 || j.Report().SetAside != "" || j.Report().Unreadable != "" {
			t.Fatalf("with %d descriptors: %d events, gaps %v, %+v", more, n, gaps, j.Report())
		}
		t.Logf("it opens with %d descriptors", more)
	}
}

// If a start was killed while the server deleted the stream, or while the stream was put back, only
// some blocks are left. The hard links hold the others.
func TestKilledWhilePuttingBack(t *testing.T) {
	template, mark, _ := prepare(t, false)
	for _, kept := range [][]int{{1}, {2}, {3}, {1, 2}, {2, 3}} {
		dir := filepath.Join(t.TempDir(), "journal")
		if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
			t.Fatal(err)
		}
		if _, err := linkBlocks(dir, time.Now(), (*os.File).Sync, scope{bytes: verifyBytes}); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(streamDir(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(streamDir(dir), "msgs"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, n := range kept {
			if err := os.Link(blockPath(linksDir(dir), n), block(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
		j := open(t, Options{Dir: dir, Marker: &memMarker{m: new(*mark.m)}})
		if n, gaps := contents(t, j, 1); n != damageEvents || len(gaps) != 0 || !j.Report().Restored || j.Report().Gap != nil {
			t.Errorf("blocks %v were left: %d events, gaps %v, %+v", kept, n, gaps, j.Report())
		}
	}
}

// Two restores in one second both keep the files that they moved aside.
func TestTwoRestoresInASecond(t *testing.T) {
	dir, marker, _ := prepare(t, true)
	now := time.Now()
	for range 2 {
		if _, err := linkBlocks(dir, now, (*os.File).Sync, scope{bytes: verifyBytes}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(blockPath(linksDir(dir), 2)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(blockPath(linksDir(dir), 2), 0o700); err != nil { // every read of a directory fails
			t.Fatal(err)
		}
		if _, restored, err := putBack(dir, now); err != nil || restored != 2 {
			t.Fatalf("%d blocks put back, %v", restored, err)
		}
		if err := os.Link(filepath.Join(dir, "unreadable-"+stamp(now), "stream", "msgs", "2.blk"), block(dir, 2)); err != nil {
			t.Fatal(err)
		}
	}
	aside, err := filepath.Glob(filepath.Join(dir, "unreadable-"+stamp(now), "*"))
	if err != nil || len(aside) != 4 {
		t.Errorf("aside are %v, %v", aside, err)
	}
	if err := os.RemoveAll(linksDir(dir)); err != nil {
		t.Fatal(err)
	}
	j := open(t, Options{Dir: dir, Marker: marker})
	if n, gaps := contents(t, j, 1); n != damageEvents || len(gaps) != 0 {
		t.Errorf("%d events, gaps %v", n, gaps)
	}
}

// Somebody removes the journal's files while it runs, and the server continues in files without a
// name. Events in these files must not be acknowledged, and no empty journal may replace the old
// one.
func TestFilesRemovedWhileRunning(t *testing.T) {
	for _, c := range []struct {
		name    string
		remove  func(dir string) error
		resumes bool // the server's index keeps the numbers
	}{
		{"stream", func(dir string) error { return os.RemoveAll(streamDir(dir)) }, false},
		{"blocks", func(dir string) error { return os.RemoveAll(filepath.Join(streamDir(dir), "msgs")) }, false},
		{"last block", func(dir string) error { return os.Remove(block(dir, 1)) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, marker := t.TempDir(), &memMarker{}
			j := open(t, Options{Dir: dir, Marker: marker, retryMin: 5 * time.Millisecond, ackTimeout: time.Second})
			appendN(t, j, "r", 0, 10)
			if err := c.remove(dir); err != nil {
				t.Fatal(err)
			}
			if seq, err := j.Append(t.Context(), sample("r", 10)); !errors.Is(err, ErrUnknown) {
				t.Fatalf("the first append: %d, %v", seq, err)
			}
			if !c.resumes {
				for n := range 20 {
					if seq, err := j.Append(t.Context(), sample("r", 11+n)); !errors.Is(err, ErrUnavailable) {
						t.Fatalf("an append: %d, %v", seq, err)
					}
				}
				closeJournal(t, j)
				if _, err := tryOpen(t, Options{Dir: dir, Marker: marker}); !errors.Is(err, ErrMissing) {
					t.Errorf("the next start: %v", err)
				}
				return
			}
			eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
			last := appendN(t, j, "r", 11, 3)
			if last != 14 {
				t.Fatalf("the next number is %d", last-2)
			}
			closeJournal(t, j)
			j = open(t, Options{Dir: dir, Marker: marker})
			r := from1(t, j, 2)
			readGap(t, r, GapError{2, 11, GapRetention})
			if _, times := readN(t, r, 3); times[2] != sample("", 13).Time {
				t.Error(times)
			}
		})
	}
}
