package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// visited reads a span and returns its visits as text: "1-3", "gap 4-9 missing from the journal",
// ...
func visited(t *testing.T, j *Journal, span Span, during func(records []Record, gap *GapError)) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var list []string
	var first, last uint64
	flush := func() {
		if first > 0 {
			list = append(list, fmt.Sprintf("%d-%d", first, last))
		}
		first = 0
	}
	err := j.Range(ctx, span, func(records []Record, gap *GapError) error {
		if (gap == nil) == (len(records) == 0) {
			t.Errorf("a visit with %d records and the gap %v", len(records), gap)
		}
		for _, rec := range records {
			if first > 0 && rec.Seq != last+1 {
				t.Errorf("%d comes after %d", rec.Seq, last)
			}
			if first == 0 {
				first = rec.Seq
			}
			last = rec.Seq
			if rec.Err != nil || rec.Event.Time != sample("", int(rec.Seq-1)).Time {
				t.Errorf("record %d: %v, %+v", rec.Seq, rec.Err, rec.Event)
			}
		}
		if gap != nil {
			flush()
			list = append(list, fmt.Sprintf("gap %d-%d %s", gap.From, gap.To, gap.Reason))
		}
		if during != nil {
			during(records, gap)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	flush()
	return list
}

func wantVisited(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("visited\n%s\nand not\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRange(t *testing.T) { bothWays(t, ranges) }

func ranges(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	all := Span{First: 1, Last: math.MaxUint64}
	wantVisited(t, visited(t, j, all, nil))
	wantVisited(t, visited(t, j, Span{}, nil))
	appendN(t, j, "r", 0, 2500)
	wantVisited(t, visited(t, j, Span{}, nil))
	wantVisited(t, visited(t, j, Span{First: 7, Last: 6}, nil))
	wantVisited(t, visited(t, j, Span{First: 2501, Last: 9000}, nil))
	wantVisited(t, visited(t, j, Span{First: 0, Last: 3}, nil), "1-3")
	wantVisited(t, visited(t, j, Span{First: 7, Last: 7}, nil), "7-7")
	wantVisited(t, visited(t, j, Span{First: 1200, Last: 2300}, nil), "1200-2300")
	// Events that are appended during Range are not visited.
	n := 2500
	wantVisited(t, visited(t, j, all, func([]Record, *GapError) {
		appendN(t, j, "r", n, 10)
		n += 10
	}), "1-2500")
	// The first error of visit ends Range.
	stop := errors.New("stop")
	visits := 0
	if err := j.Range(t.Context(), all, func([]Record, *GapError) error { visits++; return stop }); err != stop || visits != 1 {
		t.Errorf("%v after %d visits", err, visits)
	}
}

func TestRangeEnds(t *testing.T) { bothWays(t, rangeEnds) }

func rangeEnds(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 10)
	ctx, cancel := context.WithCancel(t.Context())
	run := j.runs.current()
	j.durable.forget()
	j.runs.set(nil) // Range waits for the server then
	failed := make(chan error, 1)
	go func() { failed <- j.Range(ctx, Span{1, 10}, func([]Record, *GapError) error { return nil }) }()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: %v", err)
	}
	j.runs.set(run)
	closeJournal(t, j)
	if err := j.Range(t.Context(), Span{1, 10}, func([]Record, *GapError) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestRangeGaps(t *testing.T) { bothWays(t, rangeGaps) }

func rangeGaps(t *testing.T) {
	j := open(t, Options{})
	appendN(t, j, "r", 0, 100)
	purge(t, j, 11) // as retention does
	wantVisited(t, visited(t, j, Span{1, 100}, nil), "gap 1-10 "+GapRetention, "11-100")
	wantVisited(t, visited(t, j, Span{3, 12}, nil), "gap 3-10 "+GapRetention, "11-12")
	wantVisited(t, visited(t, j, Span{3, 7}, nil), "gap 3-7 "+GapRetention)
	purge(t, j, 101) // no event is left
	wantVisited(t, visited(t, j, Span{1, 200}, nil), "gap 1-100 "+GapRetention)
}

// Retention drops events after Range has visited some records.
func TestRangeOvertakenByRetention(t *testing.T) { bothWays(t, rangeOvertakenByRetention) }

func rangeOvertakenByRetention(t *testing.T) {
	j := open(t, Options{Sync: SyncEvery(time.Minute)})
	n := pullEvents + 2*rangeRead // more than a reader holds in memory
	appendN(t, j, "r", 0, n)
	purged := false
	list := visited(t, j, Span{1, uint64(n)}, func([]Record, *GapError) {
		if !purged {
			purge(t, j, uint64(n-10))
		}
		purged = true
	})
	if len(list) != 3 || !strings.HasSuffix(list[1], fmt.Sprintf("-%d %s", n-11, GapRetention)) || list[2] != fmt.Sprintf("%d-%d", n-10, n) {
		t.Errorf("visited %q", list)
	}
}

// One record in the middle and the last record are missing; no event comes after the last one.
func TestRangeOverDamage(t *testing.T) { bothWays(t, rangeOverDamage) }

func rangeOverDamage(t *testing.T) {
	dir, marker, lastOf := prepare(t, false)
	edit(t, block(dir, 2), func(b []byte) []byte { b[100] ^= 1; return b })
	edit(t, block(dir, 3), func(b []byte) []byte { return b[:len(b)-100] })
	j := open(t, Options{Dir: dir, Marker: marker})
	lost := lastOf[0] + 1
	wantVisited(t, visited(t, j, Span{1, damageEvents}, nil),
		fmt.Sprintf("1-%d", lost-1), fmt.Sprintf("gap %d-%d %s", lost, lost, GapLost), fmt.Sprintf("%d-%d", lost+1, damageEvents-1))
	if st, err := j.State(t.Context()); err != nil || st.LastSeq != damageEvents-1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestRangeWithoutTheLastRecords(t *testing.T) { bothWays(t, rangeWithoutTheLastRecords) }

func rangeWithoutTheLastRecords(t *testing.T) {
	dir, marker, _ := prepare(t, false)
	edit(t, block(dir, 3), func(b []byte) []byte { return b[:len(b)-100] })
	j := open(t, Options{Dir: dir, Marker: marker})
	wantVisited(t, visited(t, j, Span{damageEvents - 5, math.MaxUint64}, nil),
		fmt.Sprintf("%d-%d", damageEvents-5, damageEvents-1), fmt.Sprintf("gap %d-%d %s", damageEvents, damageEvents, GapLost))
}

// badDisk is a disk on which each fsync fails while it is set. Otherwise fsync does nothing, to be
// fast.
type badDisk struct {
	atomic.Bool
	hold atomic.Pointer[hold]
}

// A hold keeps a failing fsync waiting: in takes a value when one waits, until out is closed.
type hold struct{ in, out chan struct{} }

func (d *badDisk) fsync(*os.File) error {
	if !d.Load() {
		return nil
	}
	if h := d.hold.Load(); h != nil {
		h.in <- struct{}{}
		<-h.out
	}
	return syscall.EIO
}

// breakServer makes the next fsync fail, so that the journal restarts its server, and waits until
// the server is back. During meanwhile nothing reads or writes the journal's files: the attempt to
// restart has read the newest blocks, and waits in its fsync.
func breakServer(t *testing.T, j *Journal, d *badDisk, meanwhile func()) {
	t.Helper()
	d.Store(true)
	if _, err := j.Append(t.Context(), sample("r", 0)); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	h := &hold{in: make(chan struct{}), out: make(chan struct{})}
	d.hold.Store(h)
	<-h.in
	meanwhile()
	d.hold.Store(nil)
	d.Store(false)
	close(h.out)
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
}

func TestRangeOverARestartOfTheServer(t *testing.T) { bothWays(t, rangeOverARestartOfTheServer) }

func rangeOverARestartOfTheServer(t *testing.T) {
	var disk badDisk
	j := open(t, Options{fsync: disk.fsync, retryMin: 5 * time.Millisecond})
	const n = pullEvents + 2*rangeRead
	appendN(t, j, "r", 0, n)
	broken := false
	wantVisited(t, visited(t, j, Span{1, n}, func([]Record, *GapError) {
		if !broken {
			breakServer(t, j, &disk, func() {})
		}
		broken = true
	}), fmt.Sprintf("1-%d", n))
}

// The journal loses its last events while Range is in the middle. Their numbers are used again at
// once, for events that do not belong to the span.
func TestRangeOfAJournalThatLosesItsEnd(t *testing.T) { bothWays(t, rangeOfAJournalThatLosesItsEnd) }

func rangeOfAJournalThatLosesItsEnd(t *testing.T) {
	const n = 2 * rangeRead
	for _, end := range []uint64{n / 4, n - 10} { // where the journal ends after it was cut, when more than half is visited
		var disk badDisk
		dir := t.TempDir()
		j := open(t, Options{Dir: dir, fsync: disk.fsync, retryMin: 5 * time.Millisecond})
		appendN(t, j, "r", 0, n)
		var last uint64 // the last number visited before
		got := visited(t, j, Span{1, math.MaxUint64}, func(records []Record, _ *GapError) {
			if last > 0 || records[len(records)-1].Seq < n/2 {
				return
			}
			last = records[len(records)-1].Seq
			breakServer(t, j, &disk, func() {
				cutAfter(t, block(dir, 1), end)
				if err := os.Remove(filepath.Join(streamDir(dir), "msgs", indexFile)); err != nil {
					t.Error(err)
				}
			})
			appendN(t, j, "new", n, n)
		})
		wantVisited(t, got, fmt.Sprintf("1-%d", max(last, end)), fmt.Sprintf("gap %d-%d %s", end+1, n, GapRewound))
	}
}
