package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A damaged record costs only itself, although the server would cut the block there and lose every
// intact event after it. The block is kept as it was found.
func TestDamagedRecordTakesNoOther(t *testing.T) {
	current, mark, lastOf := prepare(t, false)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(current)); err != nil {
		t.Fatal(err)
	}
	spoilIndex(t, old)
	for _, tt := range []struct {
		name  string
		block int
		stale bool
		off   int // of the damaged byte in the third record of the block
	}{
		{"length in the last block", 3, false, 0},
		{"length in the last block, stale", 3, true, 1},
		{"length in the second block", 2, false, 0},
		{"length in the second block, stale", 2, true, 0},
		{"text in the first block, stale", 1, true, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, marker := filepath.Join(t.TempDir(), "journal"), &memMarker{m: new(*mark.m)}
			from := current
			if tt.stale {
				from = old
			}
			if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
			var damaged []byte
			edit(t, block(dir, tt.block), func(b []byte) []byte {
				at := starts(b)[2] + tt.off
				b[at] ^= 0x10
				damaged = bytes.Clone(b)
				return b
			})
			seq := uint64(3)
			if tt.block > 1 {
				seq = lastOf[tt.block-2] + 3
			}
			j, err := tryOpen(t, Options{Dir: dir, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			n, gaps := contents(t, j, 1)
			if want := (GapError{seq, seq, GapLost}); n != damageEvents-1 || len(gaps) != 1 || gaps[0] != want {
				t.Errorf("%d events, gaps %v", n, gaps)
			}
			if got := j.Losses(); got.Events != 1 || len(got.Ranges) != 1 || got.Ranges[0].From != seq || got.Ranges[0].Reason != GapLost {
				t.Errorf("losses %+v", got)
			}
			kept, err := os.ReadFile(filepath.Join(j.Report().Unreadable, fmt.Sprintf("%d.blk", tt.block)))
			if err != nil || !bytes.Equal(kept, damaged) {
				t.Errorf("the damaged block is not kept as it was: %v", err)
			}
			if last := appendN(t, j, "r", damageEvents, 1); last != damageEvents+1 {
				t.Errorf("the next number is %d", last)
			}
			closeJournal(t, j)
			// The loss is remembered, and not found a second time.
			j, err = tryOpen(t, Options{Dir: dir, Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := contents(t, j, 1); n != damageEvents || j.Losses().Events != 1 || j.Report().Unreadable != "" {
				t.Errorf("%d events, %+v, %+v", n, j.Losses(), j.Report())
			}
		})
	}
}

// The last block is garbage from its beginning. Losses reports its events, with and without an
// index. It also reports events that were appended after the marker was saved, if a position proves
// that they existed.
func TestLastBlockOverwritten(t *testing.T) {
	for _, stale := range []bool{false, true} {
		for _, reached := range []uint64{0, damageEvents} {
			t.Run(fmt.Sprintf("stale=%v, reached %d", stale, reached), func(t *testing.T) {
				dir, marker, lastOf := prepare(t, stale)
				known := uint64(damageEvents)
				if stale {
					marker.m.Seq, marker.m.EventTime = damageEvents-50, 0 // saved a few seconds before a crash
					known = max(marker.m.Seq, reached)
				}
				edit(t, block(dir, 3), func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) })
				j := open(t, Options{Dir: dir, Marker: marker, Reached: reached})
				got := j.Losses()
				if want := known - lastOf[1]; got.Events != want || len(got.Ranges) != 1 || got.Ranges[0].From != lastOf[1]+1 || got.Ranges[0].To != known {
					t.Errorf("losses %+v, want %d events", got, want)
				}
				if n, _ := contents(t, j, 1); n != int(lastOf[1]) {
					t.Errorf("%d events", n)
				}
				if kept, err := os.ReadFile(filepath.Join(j.Report().Unreadable, "3.blk")); err != nil || len(kept) == 0 || kept[0] != 0xa5 {
					t.Errorf("the block is not kept: %v", err)
				}
			})
		}
	}
}

// Open does not wait for a pipe in the place of a block or of another file of the server.
func TestPipeInTheJournal(t *testing.T) {
	for _, name := range []string{"2.blk", "index.db", "meta.inf", "obs"} {
		t.Run(name, func(t *testing.T) {
			dir, marker, lastOf := prepare(t, false)
			path := filepath.Join(streamDir(dir), "msgs", name)
			if name == "meta.inf" || name == "obs" {
				path = filepath.Join(streamDir(dir), name)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			var log bytes.Buffer
			j, err := Open(ctx, Options{Dir: dir, Marker: marker, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if said := log.String(); !strings.Contains(said, "something that is no file among the journal's files") || strings.Contains(said, "blocks of the journal are damaged") {
				t.Errorf("the log is %s", said)
			}
			defer closeJournal(t, j)
			want := damageEvents
			if name == "2.blk" {
				want -= int(lastOf[1] - lastOf[0])
			}
			if n, _ := contents(t, j, 1); n != want {
				t.Errorf("%d events, want %d", n, want)
			}
			// The pipe is in one of the directories: a restore a second later moves files to
			// another directory.
			aside, err := filepath.Glob(filepath.Join(dir, "unreadable-*", name))
			if err != nil || len(aside) != 1 || j.Report().Unreadable == "" {
				t.Fatalf("aside are %v, %v", aside, err)
			}
			if fi, err := os.Lstat(aside[0]); err != nil || fi.Mode().Type() != os.ModeNamedPipe {
				t.Errorf("the pipe is not aside: %v", err)
			}
		})
	}
}

// Without space for the intact events of a damaged block the journal is not opened, because the
// server would cut these events.
func TestDamagedBlockOnAFullDisk(t *testing.T) {
	dir, marker, _ := prepare(t, false)
	edit(t, block(dir, 3), func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[starts(b)[2]:], 77)
		return b
	})
	full := true
	o := Options{Dir: dir, Marker: marker, fsync: func(f *os.File) error {
		if full && filepath.Ext(f.Name()) == ".rewrite" {
			return unix.ENOSPC
		}
		return f.Sync()
	}}
	if _, err := tryOpen(t, o); !errors.Is(err, unix.ENOSPC) || !errors.Is(err, ErrServer) {
		t.Fatalf("got %v", err)
	}
	full = false
	j := open(t, o)
	if n, _ := contents(t, j, 1); n != damageEvents-1 {
		t.Errorf("%d events", n)
	}
}

// The only block is garbage after a clean stop. Its numbers stay used and all its events are
// reported as lost, not as removed by retention. A reader learns of the loss before another event
// comes.
func TestOnlyBlockOverwritten(t *testing.T) {
	const events = 50
	for name, from := range map[string]int{"all of it": 0, "half of it": events / 2} {
		t.Run(name, func(t *testing.T) {
			dir, marker := t.TempDir(), &memMarker{}
			j := open(t, Options{Dir: dir, Marker: marker})
			appendN(t, j, "r", 0, events)
			closeJournal(t, j)
			edit(t, block(dir, 1), func(b []byte) []byte {
				at := starts(b)[from]
				return append(b[:at], bytes.Repeat([]byte{0xa5}, len(b)-at)...)
			})
			j = open(t, Options{Dir: dir, Marker: marker})
			want := GapError{uint64(from + 1), events, GapLost}
			if got := j.Losses(); got.Events != want.Missing() || len(got.Ranges) != 1 || got.Ranges[0].From != want.From {
				t.Errorf("losses %+v", got)
			}
			if from == 0 {
				want.From = 2 // a reader of everything begins where the journal begins
				readGap(t, from1(t, j, 2), want)
			} else {
				r := from1(t, j, 1)
				readN(t, r, from)
				readGap(t, r, want)
			}
			if last := appendN(t, j, "r", events, 1); last <= events {
				t.Errorf("the number %d is used again", last)
			}
		})
	}
}

// A block that is not verified at a start and not read is verified after the start: its damage is
// reported, the block is kept as it was, and the next start repairs it.
func TestDamagedOldBlockIsFound(t *testing.T) {
	dir, marker, lastOf := prepare(t, false)
	damaged := spoilLength(t, dir)
	seq := lastOf[0] + 3
	passRecent()
	o := Options{Dir: dir, Marker: marker, verifyBytes: 1, olderPause: time.Millisecond}
	j, err := tryOpen(t, o)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Minute); j.Losses().Events == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the damage was not found")
		}
	}
	if got := j.Losses(); got.Events != 1 || len(got.Ranges) != 1 || got.Ranges[0].From != seq || got.Ranges[0].Reason != GapLost {
		t.Errorf("losses %+v", got)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "unreadable-*", "2.blk"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %v, %v", kept, err)
	}
	if content, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(content, damaged) {
		t.Errorf("the damaged block is not kept as it was: %v", err)
	}
	closeJournal(t, j)
	for range 2 {
		if j, err = tryOpen(t, o); err != nil {
			t.Fatal(err)
		}
		n, gaps := contentsTo(t, j, damageEvents)
		if want := (GapError{seq, seq, GapLost}); n != damageEvents-1 || len(gaps) != 1 || gaps[0] != want {
			t.Errorf("%d events, gaps %v", n, gaps)
		}
		if got := j.Losses(); got.Events != 1 {
			t.Errorf("losses %+v", got)
		}
		closeJournal(t, j)
	}
}

// spoilLength damages the length of the third record in the second of the three blocks and returns
// the damaged block.
func spoilLength(t *testing.T, dir string) (damaged []byte) {
	t.Helper()
	edit(t, block(dir, 2), func(b []byte) []byte {
		b[starts(b)[2]+1] ^= 0x10
		damaged = bytes.Clone(b)
		return b
	})
	return damaged
}

// passRecent waits until no event belongs to the recent past. It really sleeps, because the server
// uses its own clock.
func passRecent() { time.Sleep(recentPast) }

// A block that the server reads at its start although its index is current is verified and repaired
// before the server starts.
func TestDamagedBlockThatTheStartReads(t *testing.T) {
	const hour = time.Hour
	for name, begins := range map[string][3]time.Duration{ // the times of the blocks, relative to now
		"the clock was set back":       {-3 * hour, -2 * hour, hour},
		"the time went on in between":  {-3 * hour, hour, -hour},
		"retention cuts into it":       {-9 * hour, -8 * hour, -hour},
		"retention drops one before":   {-9 * hour, -7 * hour, -2 * hour},
		"it is the second that is new": {-3 * hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir, marker, _ := prepare(t, false)
			spoilLength(t, dir)
			for i, ahead := range begins {
				beginAt(t, dir, i+1, time.Now().Add(ahead))
			}
			damaged, err := os.ReadFile(block(dir, 2))
			if err != nil {
				t.Fatal(err)
			}
			j, err := tryOpen(t, Options{Dir: dir, Marker: marker, verifyBytes: 1, olderPause: hour, Retention: 6 * hour})
			if err != nil {
				t.Fatal(err)
			}
			defer closeJournal(t, j)
			aside := j.Report().Unreadable
			if content, err := os.ReadFile(filepath.Join(aside, "2.blk")); err != nil || !bytes.Equal(content, damaged) {
				t.Errorf("the damaged block is not kept as it was: %v", err)
			}
			if got := j.Losses(); got.Events != 1 {
				t.Errorf("losses %+v", got)
			}
		})
	}
}

// beginAt changes the time of the first event of block n. The server's index stays current, because
// it is compared only with the checksum of the last record.
func beginAt(t *testing.T, dir string, n int, at time.Time) {
	t.Helper()
	sum, err := blockHash(n)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, block(dir, n), func(b []byte) []byte {
		size := int(binary.LittleEndian.Uint32(b) &^ lengthHeaders)
		subject := int(binary.LittleEndian.Uint16(b[20:]))
		binary.LittleEndian.PutUint64(b[12:], uint64(at.UnixNano()))
		body := b[recordHead : size-recordSum]
		sum.Write(b[4:20])
		sum.Write(body)
		if binary.LittleEndian.Uint32(b)&lengthHeaders != 0 || subject == 0 {
			t.Fatal("a record with headers")
		}
		copy(b[size-recordSum:size], sum.Sum(nil))
		return b
	})
}

// If a damaged block is read before it is verified, the server cuts it, and the loss is reported
// once.
func TestDamagedOldBlockIsReadFirst(t *testing.T) {
	dir, marker, lastOf := prepare(t, false)
	spoilLength(t, dir)
	passRecent()
	j, err := tryOpen(t, Options{Dir: dir, Marker: marker, verifyBytes: 1, olderPause: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer closeJournal(t, j)
	if _, err := j.runs.current().stream.GetMsg(t.Context(), lastOf[0]+1); err != nil {
		t.Fatal(err)
	}
	older := *j.older.Load()
	for range 2 {
		v := verifier{msgs: filepath.Join(streamDir(dir), "msgs"), aside: t.TempDir(), fsync: (*os.File).Sync}
		for i := range len(older) - 1 {
			if err := j.verifyOne(&v, older, i); err != nil {
				t.Fatal(err)
			}
		}
		want := GapError{lastOf[0] + 3, lastOf[1], GapLost}
		got := j.Losses()
		if got.Events != want.Missing() || len(got.Ranges) != 1 || got.Ranges[0].From != want.From || got.Ranges[0].To != want.To {
			t.Errorf("losses %+v, want %v", got, want)
		}
	}
}

// A damaged number of a block's first event does not turn the numbers between that event and the
// previous block into a loss.
func TestDamagedFirstNumberOfAnOldBlock(t *testing.T) {
	dir, marker, lastOf := prepare(t, false)
	edit(t, block(dir, 2), func(b []byte) []byte {
		b[4+5] ^= 1 // adds 2^40
		return b
	})
	passRecent()
	j, err := tryOpen(t, Options{Dir: dir, Marker: marker, verifyBytes: 1, olderPause: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer closeJournal(t, j)
	older := *j.older.Load()
	v := verifier{msgs: filepath.Join(streamDir(dir), "msgs"), aside: t.TempDir(), fsync: (*os.File).Sync}
	for i := range len(older) - 1 {
		if err := j.verifyOne(&v, older, i); err != nil {
			t.Fatal(err)
		}
		if got := j.Losses(); got.Events != 1 || got.Ranges[0].From != lastOf[0]+1 {
			t.Errorf("losses %+v", got)
		}
	}
}

// contentsTo counts the events up to last and collects the gaps between them.
func contentsTo(t *testing.T, j *Journal, last uint64) (n int, gaps []GapError) {
	t.Helper()
	r := from1(t, j, 1)
	for {
		recs, err := r.Read(t.Context(), 500)
		var gap *GapError
		if errors.As(err, &gap) {
			gaps = append(gaps, *gap)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(recs)
		if recs[len(recs)-1].Seq >= last {
			return n, gaps
		}
	}
}
