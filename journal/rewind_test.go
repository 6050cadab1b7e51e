package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// cutAfter removes the records after the event numbered last from a block.
func cutAfter(t *testing.T, path string, last uint64) {
	t.Helper()
	edit(t, path, func(b []byte) []byte {
		for at := 0; at < len(b); {
			size, seq := int(binary.LittleEndian.Uint32(b[at:])), binary.LittleEndian.Uint64(b[at+4:])
			if seq > last {
				return b[:at]
			}
			at += size
		}
		t.Fatalf("%s does not go beyond %d", path, last)
		return nil
	})
}

// loseEnd makes a disk fail and lose the events after last, and waits until the journal appends again.
// While the block is cut, the attempt to start the server again waits in its fsync: it has read the
// block. The next one finds what is left.
func (g *fsyncGate) loseEnd(t *testing.T, j *Journal, dir string, last uint64) {
	t.Helper()
	bad := error(syscall.EIO)
	g.fail.Store(&bad)
	if _, err := j.Append(t.Context(), sample("r", 100)); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	g.close()
	<-g.in
	blocks, err := listBlocks(filepath.Join(streamDir(dir), "msgs"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	cutAfter(t, block(dir, blocks[0]), last)
	if err := os.Remove(filepath.Join(streamDir(dir), "msgs", "index.db")); err != nil {
		t.Fatal(err)
	}
	calls := g.calls.Load()
	g.open()
	eventually(t, "that attempt failed", func() bool { return g.calls.Load() > calls })
	g.fail.Store(nil)
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
}

// A disk loses the journal's last events while the journal runs, and their numbers are used again
// at once. A reader that comes when all these numbers are in use must neither skip the new events
// nor show the old ones.
func TestRewoundWhileRunning(t *testing.T) { bothWays(t, rewoundWhileRunning) }

func rewoundWhileRunning(t *testing.T) {
	g := newFsyncGate()
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, fsync: g.fsync, retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 100)
	all, half, late := from1(t, j, 1), from1(t, j, 1), from1(t, j, 96)
	readN(t, all, 100)
	readN(t, half, 50) // the others are in the reader's memory
	for range 2 {
		g.loseEnd(t, j, dir, 90)
		if last := appendN(t, j, "new", 1000, 20); last != 110 {
			t.Fatalf("the journal ends with %d", last)
		}
	}
	readGap(t, all, GapError{91, 100, GapRewound})
	readGap(t, late, GapError{91, 95, GapRewound})
	for _, r := range []*Reader{all, late} {
		if seqs, times := readN(t, r, 20); seqs[0] != 91 || times[0] != sample("", 1000).Time {
			t.Errorf("it goes on with %d, event %d", seqs[0], times[0]-sample("", 0).Time)
		}
		if p := r.Pending(); p != 0 {
			t.Errorf("%d pending", p)
		}
	}
	seqs, times := readN(t, half, 60)
	for i, seq := range seqs {
		want := sample("", int(seq-1)).Time
		if seq > 90 {
			want = sample("", 1000+int(seq-91)).Time
		}
		if seq != uint64(51+i) || times[i] != want {
			t.Fatalf("number %d holds event %d", seq, times[i]-sample("", 0).Time)
		}
	}
	// The gap is reported once: a new consumer finds no other gap.
	all.drop()
	appendN(t, j, "r", 0, 1)
	readN(t, all, 1)
	if got := value(t, j.m.gaps.WithLabelValues("rewound")); got != 2+2 { // two by readers, two at the restarts
		t.Errorf("%v gaps counted", got)
	}
}

// The server refuses events in the middle of a batch, but answers only the refusal of the last one.
// The later events got lower numbers, so the batch may not be answered by counting.
func TestRefusedInTheMiddle(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync, retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 1)
	run := j.runs.current()
	stream, err := run.js.Stream(t.Context(), StreamName)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = 1000
	if _, err := run.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	large := sample("r", 7)
	large.Collectors[0].Tags = []string{strings.Repeat("x", 2000)}
	g.close()
	t.Cleanup(g.open)
	type answer struct {
		event int
		seq   uint64
		err   error
	}
	answers := make(chan answer, 10)
	add := func(n int, e *codec.Event) {
		go func() {
			seq, err := j.Append(context.Background(), e)
			answers <- answer{n, seq, err}
		}()
	}
	add(1, sample("r", 1))
	<-g.in
	for n, e := range []*codec.Event{sample("r", 2), large, sample("r", 4), large} {
		add(2+n, e)
		queued(t, j, n+1)
	}
	g.open()
	for range 5 {
		a := <-answers
		if a.event == 1 {
			if a.err != nil || a.seq != 2 {
				t.Errorf("the event before: %d, %v", a.seq, a.err)
			}
			continue
		}
		if !errors.Is(a.err, ErrUnknown) {
			t.Errorf("event %d was answered with %d, %v", a.event, a.seq, a.err)
		}
	}
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	if last := appendN(t, j, "r", 9, 1); last != 5 {
		t.Errorf("the next number is %d", last)
	}
	// All events were refused, so it is certain that none is stored.
	if !j.inOrder([]*request{{}}, 5, &embedded{last: 5}) {
		t.Error("a batch of which nothing is stored counts as unknown")
	}
}

// The newest block is written again at every restart, not only after a failed fsync of the journal.
func TestRestartWritesTheNewestBlockAgain(t *testing.T) {
	j := open(t, Options{retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 3)
	run := j.runs.current()
	before, err := os.Stat(blockPath(run.msgs, 1))
	if err != nil {
		t.Fatal(err)
	}
	// A foreign write makes the next number an unexpected one.
	if _, err := run.js.Publish(t.Context(), codec.ReadingsSubject+"x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), sample("r", 3)); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	if after, err := os.Stat(blockPath(run.msgs, 1)); err != nil || os.SameFile(before, after) {
		t.Errorf("the block was not written anew, %v", err)
	}
	// If the disk has no room for the new copy, the server still comes back, unless an fsync of the
	// journal has failed.
	full := func(f *os.File) error { return &os.PathError{Op: "fsync", Path: f.Name(), Err: syscall.ENOSPC} }
	other := &Journal{o: Options{Dir: j.o.Dir, fsync: full}}
	stopped := &embedded{msgs: t.TempDir(), blocks: &blocks{}}
	if err := os.WriteFile(blockPath(stopped.msgs, 1), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := other.rewrite(stopped, errMismatch); err != nil {
		t.Error(err)
	}
	if err := other.rewrite(stopped, &syncError{syscall.EIO}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("after a failed fsync: %v", err)
	}
}

// The server may drop the stream during a restart, and that restart may fail. Then only the hard
// links hold the blocks: the next restart writes them again and puts them back.
func TestStreamDroppedAtARestart(t *testing.T) {
	g := newFsyncGate()
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, Marker: &memMarker{}, fsync: g.fsync, retryMin: 5 * time.Millisecond})
	appendN(t, j, "r", 0, 10)
	bad := error(syscall.EIO)
	g.fail.Store(&bad)
	if _, err := j.Append(t.Context(), sample("r", 10)); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	if _, err := linkBlocks(dir, time.Now(), (*os.File).Sync, scope{bytes: verifyBytes}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(streamDir(dir)); err != nil {
		t.Fatal(err)
	}
	linked, err := os.Stat(blockPath(linksDir(dir), 1))
	if err != nil {
		t.Fatal(err)
	}
	g.fail.Store(nil)
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	if now, err := os.Stat(block(dir, 1)); err != nil || os.SameFile(linked, now) {
		t.Errorf("the block was not written anew, %v", err)
	}
	appendN(t, j, "r", 11, 1)
	if n, gaps := contents(t, j, 1); n != 12 || len(gaps) != 0 {
		t.Errorf("%d events, gaps %v", n, gaps)
	}
}
