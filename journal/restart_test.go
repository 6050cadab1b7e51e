package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// full is a statfs of a disk that a test can fill.
type full struct{ free atomic.Uint64 }

func (f *full) statfs(string) (uint64, uint64, error) { return f.free.Load(), 100 << 30, nil }

func TestDiskFullGuard(t *testing.T) {
	var disk full
	disk.free.Store(10 << 30)
	j := open(t, Options{statfs: disk.statfs})
	r := from1(t, j, 1)
	appendN(t, j, "r", 0, 5)
	disk.free.Store(DefaultMinFree - 1)
	for i := range 3 {
		_, err := j.Append(t.Context(), sample("r", 100+i))
		var typed *Error
		if !errors.Is(err, ErrDiskFull) || !errors.As(err, &typed) || typed.Op != "append" {
			t.Fatalf("with a full disk: %v", err)
		}
	}
	if err := j.Healthy(); !errors.Is(err, ErrDiskFull) {
		t.Errorf("Healthy: %v", err)
	}
	if e, n := value(t, j.m.lostEvents.WithLabelValues("disk_full")), value(t, j.m.lostReadings.WithLabelValues("disk_full")); e != 3 || n != 30 {
		t.Errorf("%v events and %v readings counted as lost", e, n)
	}
	readN(t, r, 5) // reading continues
	// Healthy changes without an append, in both directions.
	disk.free.Store(10 << 30)
	eventually(t, "healthy again", func() bool { return j.Healthy() == nil })
	disk.free.Store(0)
	eventually(t, "unhealthy without an append", func() bool { return errors.Is(j.Healthy(), ErrDiskFull) })
	disk.free.Store(DefaultMinFree + 1<<20)
	if last := appendN(t, j, "r", 5, 1); last != 6 {
		t.Errorf("then the next number is %d", last)
	}
	if got := value(t, j.m.restarts); got != 0 {
		t.Errorf("%v restarts for a full disk that nobody wrote to", got)
	}
}

func TestMinFree(t *testing.T) {
	for _, c := range []struct {
		option      int64
		free, total uint64
		ok          bool
	}{
		{0, 64 << 20, 100 << 30, true}, {0, 64<<20 - 1, 100 << 30, false},
		{0, 1 << 20, 100 << 20, true}, {0, 1<<20 - 1, 100 << 20, false}, // 1 % of a small disk
		{1000, 1000, 1 << 40, true}, {1000, 999, 1 << 40, false}, {-1, 0, 1 << 40, true},
	} {
		s := space{minFree: c.option, log: testLog(t), statfs: func(string) (uint64, uint64, error) { return c.free, c.total, nil }}
		if err := s.check(0); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
		if err := s.check(1); c.option >= 0 && err == nil {
			t.Errorf("%+v: one byte more is not seen", c)
		}
	}
	s := space{log: testLog(t), statfs: func(string) (uint64, uint64, error) { return 0, 0, errors.New("no statfs") }}
	if err := s.check(1); err != nil {
		t.Errorf("without statfs: %v", err)
	}
}

// limitFiles makes every write beyond size bytes of a file fail, as on a full disk, until lift is
// called.
func limitFiles(t *testing.T, size uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	lift = func() {
		once.Do(func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(lift)
	return lift
}

// inOwnProcess runs the calling test again in a process of its own and reports that process's
// result. In that process it returns true. A limit on files applies to the whole process, and go
// test writes a log from this one.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	const alone = "PULSE_JOURNAL_ALONE"
	if os.Getenv(alone) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), alone+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("no tests to run")) {
		t.Fatalf("in its own process: %v\n%s", err, out)
	}
	return false
}

// The server does not report failed writes. The journal must find out which events were stored,
// answer every append, and resume by itself. A reader gets each event once.
func TestWriteError(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	j := open(t, Options{ackTimeout: 300 * time.Millisecond, retryMin: 20 * time.Millisecond})
	r := from1(t, j, 1)
	appendN(t, j, "r", 0, 50)
	readN(t, r, 10)
	// Everybody appends while the file cannot grow beyond 100 kB.
	lift := limitFiles(t, 100<<10)
	var mu sync.Mutex
	acked := make(map[uint64]int) // number: event
	var unknown sync.Map
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var failed atomic.Int64
	for g := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := 1000 + g*100000 + i
				seq, err := j.Append(context.Background(), sample("r", n))
				switch {
				case err == nil:
					mu.Lock()
					acked[seq] = n
					mu.Unlock()
				case errors.Is(err, ErrUnknown):
					unknown.Store(n, true)
					failed.Add(1)
				case errors.Is(err, ErrUnavailable):
					failed.Add(1)
					time.Sleep(time.Millisecond) // like a relay's poll interval
				default:
					t.Errorf("append: %v", err)
					return
				}
			}
		}()
	}
	eventually(t, "appends fail", func() bool { return failed.Load() > 0 && errors.Is(j.Healthy(), ErrUnavailable) })
	lift()
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	resumed := value(t, j.m.events)
	eventually(t, "events are appended again", func() bool { return value(t, j.m.events) > resumed+100 })
	close(stop)
	wg.Wait()
	if value(t, j.m.restarts) == 0 {
		t.Error("the server was not restarted; this test saw nothing")
	}
	st, err := j.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for next := uint64(11); next <= st.LastSeq; {
		recs, err := r.Read(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			if rec.Seq != next || rec.Err != nil {
				t.Fatalf("record %d where %d should be, %v", rec.Seq, next, rec.Err)
			}
			next++
			n := int(rec.Event.Time - sample("", 0).Time)
			if seen[n] {
				t.Errorf("event %d is there twice", n)
			}
			seen[n] = true
			mu.Lock()
			want, ok := acked[rec.Seq]
			delete(acked, rec.Seq)
			mu.Unlock()
			if _, open := unknown.Load(n); n >= 1000 && (ok && want != n || !ok && !open) {
				t.Errorf("number %d holds event %d; acknowledged under it was %d, %v", rec.Seq, n, want, ok)
			}
		}
	}
	if len(acked) != 0 {
		t.Errorf("%d acknowledged events are not there: %v", len(acked), acked)
	}
}

// With nothing else in the queue, every append of a partly written batch gets an exact answer.
func TestWriteErrorIsSettled(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync, ackTimeout: 200 * time.Millisecond, retryMin: 10 * time.Millisecond})
	appendN(t, j, "r", 0, 1)
	g.close()
	t.Cleanup(g.open)
	type answer struct {
		n   int
		seq uint64
		err error
	}
	answers := make(chan answer, 101)
	add := func(n int) {
		go func() {
			seq, err := j.Append(context.Background(), sample("r", n))
			answers <- answer{n, seq, err}
		}()
	}
	add(1)
	<-g.in
	for n := 2; n <= 100; n++ {
		add(n)
	}
	queued(t, j, 99)
	lift := limitFiles(t, 20<<10) // the batch of 99 is about 40 kB
	g.open()
	var stored, refused int
	eventually(t, "the server was restarted", func() bool { return value(t, j.m.restarts) > 0 || j.Healthy() != nil })
	lift()
	seqs := make(map[uint64]int)
	for range 100 {
		a := <-answers
		switch {
		case a.err == nil:
			stored++
			seqs[a.seq] = a.n
		case errors.Is(a.err, ErrUnavailable) && !errors.Is(a.err, ErrUnknown):
			refused++
		default:
			t.Errorf("event %d: %v", a.n, a.err)
		}
	}
	if stored < 2 || refused < 2 {
		t.Errorf("%d stored and %d refused; the batch was not cut", stored, refused)
	}
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	st, err := j.State(t.Context())
	if err != nil || st.LastSeq != uint64(stored+1) {
		t.Fatalf("%d stored, and the journal ends at %d, %v", stored, st.LastSeq, err)
	}
	r := from1(t, j, 2)
	for n := 0; n < stored; {
		recs, err := r.Read(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			n++
			if got := int(rec.Event.Time - sample("", 0).Time); seqs[rec.Seq] != got {
				t.Errorf("number %d holds event %d instead of %d", rec.Seq, got, seqs[rec.Seq])
			}
		}
	}
	if last := appendN(t, j, "r", 500, 1); last != uint64(stored+2) {
		t.Errorf("the next number is %d", last)
	}
}

// After a failed fsync nothing is acknowledged until the data in the kernel was written again.
func TestFsyncError(t *testing.T) {
	g := newFsyncGate()
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, fsync: g.fsync, retryMin: 10 * time.Millisecond})
	appendN(t, j, "r", 0, 10)
	before, err := os.Stat(blockPath(j.runs.current().msgs, 1))
	if err != nil {
		t.Fatal(err)
	}
	bad := error(&os.PathError{Op: "fsync", Path: "a block", Err: syscall.EIO})
	g.fail.Store(&bad)
	if _, err := j.Append(t.Context(), sample("r", 10)); !errors.Is(err, ErrUnknown) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("with a failing fsync: %v", err)
	}
	if _, err := j.Append(t.Context(), sample("r", 11)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("the next: %v", err)
	}
	if err := j.Healthy(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Healthy: %v", err)
	}
	g.fail.Store(nil)
	eventually(t, "appending resumed", func() bool { return j.Healthy() == nil })
	after, err := os.Stat(blockPath(j.runs.current().msgs, 1))
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("the block was not written anew")
	}
	appendN(t, j, "r", 12, 1)
	seqs, times := readN(t, from1(t, j, 1), 12)
	if times[10] != sample("", 10).Time || times[11] != sample("", 12).Time {
		t.Errorf("%v %v", seqs, times)
	}
}

// A journal can be closed while its server cannot be restarted.
func TestCloseWhileBroken(t *testing.T) {
	g := newFsyncGate()
	j := open(t, Options{fsync: g.fsync, retryMin: time.Millisecond})
	bad := errors.New("a broken disk")
	g.fail.Store(&bad)
	if _, err := j.Append(t.Context(), sample("r", 1)); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	r := from1(t, j, 1)
	errs := make(chan error, 1)
	go func() { _, err := r.Read(context.Background(), 1); errs <- err }()
	if _, err := j.State(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("State: %v", err)
	}
	closeJournal(t, j)
	if err := <-errs; !errors.Is(err, ErrClosed) {
		t.Errorf("a reader that waited: %v", err)
	}
}
