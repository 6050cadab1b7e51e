package journal

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReachAt(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for _, tt := range []struct {
		rate float64
		want Reach
		need int64
	}{
		{0, Reach{604800, LimitRetention, 0}, 0},
		{0.4, Reach{604800, LimitRetention, 0}, 0},
		{16000, Reach{604800, LimitRetention, 16000}, 9_676_800_000},
		{800_000.4, Reach{12499, LimitMaxBytes, 800_000}, 483_840_000_000},
		{1e30, Reach{0, LimitMaxBytes, 1e30}, 1 << 62},
	} {
		got := reachAt(tt.rate, week, 10e9)
		if got != tt.want || got.Needs(week) != tt.need {
			t.Errorf("at %v bytes a second: %+v, which needs %d", tt.rate, got, got.Needs(week))
		}
	}
}

func TestMeter(t *testing.T) {
	at := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	var m meter
	rate := func(want float64, known bool) {
		t.Helper()
		if got, ok := m.rate(); got != want || ok != known {
			t.Errorf("at %v: %v, %v; want %v, %v", at, got, ok, want, known)
		}
	}
	pass := func(seconds int, bytes int64) {
		for range seconds {
			at = at.Add(time.Second)
			m.appended.Add(bytes)
			m.note(at)
		}
	}
	rate(0, false)
	m.note(at)
	pass(59, 100)
	rate(0, false)
	m.before, m.isBefore = 70, true
	rate(70, true)
	pass(1, 100)
	rate(100, true)
	pass(240, 100)
	rate(100, true)
	pass(150, 0)
	rate(50, true)
	pass(150, 0)
	rate(0, true)
	at = at.Add(time.Hour) // the machine slept
	m.note(at)
	rate(70, true)
	if len(m.samples) != 1 {
		t.Errorf("%d samples are kept", len(m.samples))
	}
}

// writeBlock writes a block of records of a size, stored at times in seconds. A negative time stands
// for a deleted record.
func writeBlock(t *testing.T, dir string, n, size int, seconds ...int64) {
	t.Helper()
	var data []byte
	for i, at := range seconds {
		record := make([]byte, size)
		number := uint64(i + 1)
		if at < 0 {
			number |= numberDeletion
		}
		binary.LittleEndian.PutUint32(record, uint32(size))
		binary.LittleEndian.PutUint64(record[4:], number)
		binary.LittleEndian.PutUint64(record[12:], uint64(at*1e9))
		data = append(data, record...)
	}
	path := block(dir, n)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ReachOf reads the newest blocks of a journal, whatever else is there.
func TestReachOf(t *testing.T) {
	dir := t.TempDir()
	check := func(what string, want Reach) {
		t.Helper()
		got, err := ReachOf(dir, time.Hour, 360_001)
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	check("no journal", Reach{})
	writeBlock(t, dir, 1, 100)
	check("an empty block", Reach{})
	writeBlock(t, dir, 2, 100, 1000, 1059)
	check("less than a minute", Reach{})
	writeBlock(t, dir, 3, 1000, -1, 1060, -1)
	check("3,200 bytes of a minute", Reach{3600, LimitRetention, 53})
	writeBlock(t, dir, 4, 1000, 1061, 1090, 1110, 1130, 1150, 1180, 1200, 1230, 1260, 1300)
	check("13,200 bytes of 300 seconds", Reach{3600, LimitRetention, 44})
	writeBlock(t, dir, 5, 100_000, 1301, 1600)
	check("200,000 bytes of 299 seconds, and 10,000 of those before", Reach{924, LimitMaxBytes, 390})
	if err := os.WriteFile(block(dir, 6), []byte("the head of a rec"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("a torn record", Reach{923, LimitMaxBytes, 390})
	if err := os.Mkdir(block(dir, 7), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := ReachOf(dir, time.Hour, 360_001); err == nil {
		t.Errorf("a directory in place of a block: %+v", got)
	}
}

// State has the reach: that of the blocks with which the journal was opened, and then that of what
// is appended, in the bytes that the server counts.
func TestStateHasTheReach(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	appendN(t, j, "web.1", 0, 100)
	state, err := j.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.Reach != (Reach{}) {
		t.Errorf("the reach of a new journal is %+v", state.Reach)
	}
	if n := j.meter.appended.Load(); n != int64(state.Bytes) {
		t.Errorf("%d bytes were appended, and the server holds %d", n, state.Bytes)
	}
	older := t.TempDir()
	writeBlock(t, older, 1, 1000, 0, 100)
	j.meter.begin(filepath.Join(streamDir(older), "msgs"), time.Unix(100, 0))
	if state, err = j.State(t.Context()); err != nil || state.Reach != reachAt(20, DefaultRetention, DefaultMaxBytes) {
		t.Errorf("the reach at 20 bytes a second is %+v, %v", state.Reach, err)
	}
}

// A journal that is too small for its retention is told of after some minutes, once a day, with the
// size that it needs.
func TestReachIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	j := &Journal{o: Options{Retention: DefaultRetention, MaxBytes: 10e9}}
	var short reachWarning
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	pass := func(d time.Duration, bytesPerSecond int64) {
		for until := now.Add(d); now.Before(until); now = now.Add(10 * time.Second) {
			j.meter.appended.Add(10 * bytesPerSecond)
			j.meter.note(now)
			short.check(now, j.reach(), j.o.Retention, slog.New(slog.NewTextHandler(&log, nil)))
		}
	}
	lines := func(want int) {
		t.Helper()
		if n := strings.Count(log.String(), "\n"); n != want {
			t.Errorf("%d lines, want %d: %s", n, want, &log)
		}
	}
	pass(time.Hour, 16_000)
	pass(2*time.Minute, 800_000) // a burst
	pass(time.Hour, 16_000)
	lines(0)
	pass(24*time.Hour, 800_000)
	lines(1)
	pass(time.Hour, 800_000)
	lines(2)
	for _, part := range []string{"level=WARN", "reaches=3h28m ", "retention=7d ", "journal-max-bytes=490GB"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("%s is not in %s", part, &log)
		}
	}
}
