package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// memMarker is a marker in memory.
type memMarker struct {
	mu  sync.Mutex
	m   *Marker
	err error
}

func (m *memMarker) LoadMarker() (Marker, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		return Marker{}, false, m.err
	}
	return *m.m, true, m.err
}

func (m *memMarker) SaveMarker(v Marker) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.m = &v
	return nil
}

func TestBoltMarker(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "pulse.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	m := BoltMarker(db)
	if _, ok, err := m.LoadMarker(); ok || err != nil {
		t.Fatalf("an empty database: %v, %v", ok, err)
	}
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, Marker: m})
	if got, ok, err := m.LoadMarker(); !ok || err != nil || got.Seq != 0 || got.Stream == "" {
		t.Fatalf("after Open: %+v, %v, %v", got, ok, err)
	}
	appendN(t, j, "r", 0, 7)
	closeJournal(t, j)
	if got, _, err := m.LoadMarker(); err != nil || got.Seq != 7 || got.EventTime != sample("", 6).Time {
		t.Fatalf("after Close: %+v, %v", got, err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("journal"), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(t, Options{Dir: dir, Marker: m}); err == nil {
		t.Error("a damaged marker is taken for none")
	}
}

func TestMarkerIsSavedWhileEventsArrive(t *testing.T) {
	m := &memMarker{}
	j := open(t, Options{Marker: m})
	appendN(t, j, "r", 0, 3)
	eventually(t, "the marker is saved", func() bool { v, _, _ := m.LoadMarker(); return v.Seq == 3 })
}

func TestOneInstance(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	_, err := tryOpen(t, Options{Dir: dir})
	var typed *Error
	if !errors.Is(err, ErrInUse) || !errors.As(err, &typed) || typed.Dir != dir || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second one: %v", err)
	}
	appendN(t, j, "r", 0, 1)
	closeJournal(t, j)
	open(t, Options{Dir: dir})
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Dir: "x", Retention: -1}, {Dir: "x", Retention: time.Millisecond}, {Dir: "x", MaxBytes: -1}, {Dir: "x", MaxBytes: 1}} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a directory was made for wrong options")
	}
	for want, p := range map[string]SyncPolicy{"always": {}, "interval:1s": SyncEvery(time.Second)} {
		if p.String() != want {
			t.Errorf("%v is written %s", want, p)
		}
	}
	// New limits are applied to an existing journal, and its events stay.
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	appendN(t, j, "r", 0, 3)
	closeJournal(t, j)
	j = open(t, Options{Dir: dir, MaxBytes: 64 << 20, Retention: time.Hour})
	st, err := j.State(t.Context())
	if err != nil || st.LastSeq != 3 || st.Messages != 3 || st.MaxBytes != 64<<20 || st.Retention != time.Hour {
		t.Errorf("%+v, %v", st, err)
	}
	stream, err := j.runs.current().js.Stream(t.Context(), StreamName)
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.MaxBytes != 64<<20 || c.MaxAge != time.Hour {
		t.Errorf("the stream has %d, %v", c.MaxBytes, c.MaxAge)
	}
}

// Another journal is in the place of the one that the marker knows.
func TestForeignJournal(t *testing.T) {
	m, other := &memMarker{}, &memMarker{}
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, Marker: m})
	appendN(t, j, "r", 0, 5)
	closeJournal(t, j)
	j = open(t, Options{Marker: other})
	closeJournal(t, j)
	if _, err := tryOpen(t, Options{Dir: dir, Marker: other}); !errors.Is(err, ErrForeign) {
		t.Errorf("another identity: %v", err)
	}
	changed := *m.m
	changed.EventTime++
	if _, err := tryOpen(t, Options{Dir: dir, Marker: &memMarker{m: &changed}}); !errors.Is(err, ErrForeign) {
		t.Errorf("another event under the marker's number: %v", err)
	}
	// Without a marker any journal is accepted.
	j = open(t, Options{Dir: dir, Marker: &memMarker{}})
	if n, _ := contents(t, j, 1); n != 5 || j.Report().Created {
		t.Errorf("%d events, %+v", n, j.Report())
	}
	// A journal that can be opened is not set aside, even with SetAside.
	closeJournal(t, j)
	j = open(t, Options{Dir: dir, Marker: m, SetAside: true})
	if n, _ := contents(t, j, 1); n != 5 || j.Report().SetAside != "" {
		t.Errorf("%d events, %+v", n, j.Report())
	}
	closeJournal(t, j)
	m.err = errors.New("a broken marker store")
	if _, err := tryOpen(t, Options{Dir: dir, Marker: m}); !errors.Is(err, m.err) {
		t.Errorf("with a broken marker store: %v", err)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir, MaxBytes: minMaxBytes, Sync: SyncEvery(time.Minute)})
	e := sample("r", 0)
	e.Collectors[0].Name = strings.Repeat("x", 100<<10)
	const n = 500 // 50 MB for a limit of 32
	for i := range n {
		e.Time = sample("r", i).Time
		if _, err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	st, err := j.State(t.Context())
	if err != nil || st.LastSeq != n || st.FirstSeq < 100 || st.Bytes > minMaxBytes || st.Messages != n-st.FirstSeq+1 {
		t.Fatalf("%+v, %v", st, err)
	}
	if size := dirSize(t, filepath.Join(streamDir(dir), "msgs")); size > minMaxBytes*5/4 {
		t.Errorf("the files have %d bytes", size)
	}
	r := from1(t, j, 2)
	readGap(t, r, GapError{2, st.FirstSeq - 1, GapRetention})
	readN(t, r, int(st.Messages))
	closeJournal(t, j)
	// Events expire by age, even those that are older than the new, shorter retention.
	j = open(t, Options{Dir: dir, MaxBytes: minMaxBytes, Retention: time.Second})
	eventually(t, "everything expired", func() bool {
		st, err := j.State(t.Context())
		return err == nil && st.Messages == 0
	})
	if last := appendN(t, j, "r", n, 1); last != n+1 {
		t.Errorf("the next number is %d", last)
	}
}

// Two journals that are set aside in one second are both kept.
func TestSetAsideTwiceInASecond(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "journal"), time.Now()
	seen := make(map[string]bool)
	for range 3 {
		gone := &memMarker{m: &Marker{Stream: "another", Seq: 5}}
		j := open(t, Options{Dir: dir, Marker: gone, SetAside: true, Now: func() time.Time { return now }})
		appendN(t, j, "r", 0, 1)
		closeJournal(t, j)
		if _, err := os.Stat(j.Report().SetAside); err != nil {
			t.Error(err)
		}
		seen[j.Report().SetAside] = true
	}
	if len(seen) != 3 {
		t.Errorf("set aside to %v", seen)
	}
}
