package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// damage is a change to the files of a journal of three blocks with 900 events, between two starts.
type damage struct {
	name string
	do   func(t *testing.T, dir string, stale bool)
	// err is what Open must return. With emptied, Open returns err only if the index is stale too:
	// a current index keeps the numbers, so the journal opens empty and continues after them.
	err     error
	emptied bool
	want    func(t *testing.T, j *Journal, lastOf []uint64, stale bool)
}

const damageEvents = 900

// prepare makes a journal of three blocks and its marker. The index is current, as after a clean
// stop, or missing if stale is set. lastOf holds the last number in each block.
func prepare(t *testing.T, stale bool) (dir string, marker *memMarker, lastOf []uint64) {
	t.Helper()
	dir = t.TempDir()
	lastOf, m := template.make(t)
	if err := os.CopyFS(dir, os.DirFS(template.dir)); err != nil {
		t.Fatal(err)
	}
	if stale {
		spoilIndex(t, dir)
	}
	return dir, &memMarker{m: &m}, lastOf
}

// template is the journal that prepare copies. The first test that needs it writes it, and TestMain
// removes it.
var template damageTemplate

type damageTemplate struct {
	mu     sync.Mutex
	dir    string
	lastOf []uint64
	marker Marker
}

func (d *damageTemplate) make(t *testing.T) (lastOf []uint64, marker Marker) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastOf != nil {
		return slices.Clone(d.lastOf), d.marker
	}
	d.remove() // of a test that failed here
	dir, err := os.MkdirTemp("", "pulse-journal-")
	if err != nil {
		t.Fatal(err)
	}
	d.dir = dir // from here on TestMain removes it, even if this test fails
	m := &memMarker{}
	j := open(t, Options{Dir: dir, Marker: m, Sync: SyncEvery(time.Minute)})
	e := sample("r", 0)
	e.Collectors[0].Name = strings.Repeat("x", 20<<10)
	blocks := 0
	for i := range damageEvents {
		e.Time = sample("r", i).Time
		seq, err := j.Append(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		list, err := listBlocks(filepath.Join(streamDir(dir), "msgs"))
		if err != nil {
			t.Fatal(err)
		}
		if len(list) > blocks && blocks > 0 {
			lastOf = append(lastOf, seq-1)
		}
		blocks = len(list)
	}
	lastOf = append(lastOf, damageEvents)
	if len(lastOf) != 3 {
		t.Fatalf("the journal has %d blocks", len(lastOf))
	}
	closeJournal(t, j)
	d.lastOf, d.marker = lastOf, *m.m
	return slices.Clone(lastOf), d.marker
}

func (d *damageTemplate) remove() {
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// spoilIndex removes the journal's index, as after a kill -9.
func spoilIndex(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(streamDir(dir), "msgs", "index.db")); err != nil {
		t.Fatal(err)
	}
}

func block(dir string, n int) string { return blockPath(filepath.Join(streamDir(dir), "msgs"), n) }

func edit(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// contents reads a journal to its last event. It returns the number of events and the gaps, and
// checks that each number holds its original event.
func contents(t *testing.T, j *Journal, from uint64) (numbers int, gaps []GapError) {
	t.Helper()
	r := from1(t, j, from)
	for r.Pending() > 0 {
		recs, err := r.Read(t.Context(), 500)
		var gap *GapError
		if errors.As(err, &gap) {
			gaps = append(gaps, *gap)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			if rec.Relay != nil {
				continue // a number that was left out
			}
			numbers++
			if rec.Err != nil || rec.Event.Time != sample("", int(rec.Seq-1)).Time {
				t.Fatalf("number %d: %v", rec.Seq, rec.Err)
			}
		}
	}
	return numbers, gaps
}

func TestDamage(t *testing.T) {
	current, mark, lastOf := prepare(t, false)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(current)); err != nil {
		t.Fatal(err)
	}
	spoilIndex(t, old)
	templates := map[bool]string{false: current, true: old}
	whole := func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
		if n, gaps := contents(t, j, 1); n != damageEvents || len(gaps) != 0 {
			t.Errorf("%d events, gaps %v", n, gaps)
		}
	}
	for _, d := range []damage{
		{"none", func(*testing.T, string, bool) {}, nil, false, whole},
		{"cut last block", func(t *testing.T, dir string, _ bool) {
			edit(t, block(dir, 3), func(b []byte) []byte { return b[:len(b)-100] })
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			if n, gaps := contents(t, j, 1); n != damageEvents-1 || len(gaps) != 0 {
				t.Errorf("%d events, gaps %v", n, gaps)
			}
			if stale {
				wantReport(t, j, &GapError{damageEvents, damageEvents, GapRewound})
			} else {
				wantReport(t, j, nil) // the number is kept, and is a gap
			}
			last := appendN(t, j, "r", damageEvents, 1)
			if want := uint64(damageEvents + 1); !stale && last != want {
				t.Errorf("the next number is %d", last)
			}
			if stale && last != damageEvents {
				t.Errorf("the next number is %d", last)
			}
			if !stale {
				readGap(t, from1(t, j, damageEvents), GapError{damageEvents, damageEvents, GapLost})
			}
		}},
		{"garbage after the last block", func(t *testing.T, dir string, _ bool) {
			edit(t, block(dir, 3), func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xa5}, 1000)...) })
		}, nil, false, whole},
		{"zeros after the last block", func(t *testing.T, dir string, _ bool) {
			edit(t, block(dir, 3), func(b []byte) []byte { return append(b, make([]byte, 4096)...) })
		}, nil, false, whole},
		{"flipped byte in the second block", func(t *testing.T, dir string, _ bool) {
			edit(t, block(dir, 2), func(b []byte) []byte { b[len(b)/2] ^= 0x20; return b })
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			n, gaps := contents(t, j, 1)
			if len(gaps) != 1 || gaps[0].Reason != GapLost || n+int(gaps[0].Missing()) != damageEvents {
				t.Fatalf("%d events, gaps %v", n, gaps)
			}
			if g := gaps[0]; g.Missing() != 1 || g.From <= lastOf[0] {
				t.Errorf("the gap is %v, the blocks end at %v", g, lastOf)
			}
			wantReport(t, j, nil)
		}},
		{"second block missing", func(t *testing.T, dir string, _ bool) {
			if err := os.Remove(block(dir, 2)); err != nil {
				t.Fatal(err)
			}
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			n, gaps := contents(t, j, 1)
			if want := (GapError{lastOf[0] + 1, lastOf[1], GapLost}); len(gaps) != 1 || gaps[0] != want || n+int(want.Missing()) != damageEvents {
				t.Errorf("%d events, gaps %v", n, gaps)
			}
		}},
		{"first block missing", func(t *testing.T, dir string, _ bool) {
			if err := os.Remove(block(dir, 1)); err != nil {
				t.Fatal(err)
			}
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			n, gaps := contents(t, j, 2)
			if want := (GapError{2, lastOf[0], GapRetention}); len(gaps) != 1 || gaps[0] != want || n+int(lastOf[0]) != damageEvents {
				t.Errorf("%d events, gaps %v", n, gaps)
			}
		}},
		{"last block missing", func(t *testing.T, dir string, _ bool) {
			if err := os.Remove(block(dir, 3)); err != nil {
				t.Fatal(err)
			}
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			if n, _ := contents(t, j, 1); n != int(lastOf[1]) {
				t.Errorf("%d events", n)
			}
			if last := appendN(t, j, "r", damageEvents, 1); stale {
				wantReport(t, j, &GapError{lastOf[1] + 1, damageEvents, GapRewound})
				if last != lastOf[1]+1 {
					t.Errorf("the next number is %d", last)
				}
			} else {
				wantReport(t, j, nil) // the numbers are kept, and are a gap
				readGap(t, from1(t, j, lastOf[1]+1), GapError{lastOf[1] + 1, damageEvents, GapLost})
			}
		}},
		{"an unreadable block", func(t *testing.T, dir string, _ bool) {
			// root can read every file, so a directory stands in for a file that gives an error
			if err := os.Remove(block(dir, 2)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(block(dir, 2), 0o700); err != nil {
				t.Fatal(err)
			}
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			n, gaps := contents(t, j, 1)
			if want := (GapError{lastOf[0] + 1, lastOf[1], GapLost}); len(gaps) != 1 || gaps[0] != want || n+int(want.Missing()) != damageEvents {
				t.Errorf("%d events, gaps %v", n, gaps)
			}
			if rep := j.Report(); rep.Unreadable == "" || rep.Gap != nil {
				t.Errorf("%+v", rep)
			}
		}},
		{"meta.inf damaged", func(t *testing.T, dir string, _ bool) {
			edit(t, filepath.Join(streamDir(dir), "meta.inf"), func(b []byte) []byte { return b[:len(b)/2] })
		}, nil, false, func(t *testing.T, j *Journal, lastOf []uint64, stale bool) {
			whole(t, j, lastOf, stale)
			if !j.Report().Restored {
				t.Error("the report does not say so")
			}
		}},
		{"meta.inf missing", func(t *testing.T, dir string, _ bool) {
			if err := os.Remove(filepath.Join(streamDir(dir), "meta.inf")); err != nil {
				t.Fatal(err)
			}
		}, nil, false, whole},
		{"index garbled", func(t *testing.T, dir string, _ bool) {
			if err := os.WriteFile(filepath.Join(streamDir(dir), "msgs", "index.db"), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, false, whole},
		{"all blocks missing", func(t *testing.T, dir string, _ bool) {
			for n := 1; n <= 3; n++ {
				if err := os.Remove(block(dir, n)); err != nil {
					t.Fatal(err)
				}
			}
		}, ErrMissing, true, nil},
		{"all blocks zero", func(t *testing.T, dir string, _ bool) {
			for n := 1; n <= 3; n++ {
				edit(t, block(dir, n), func(b []byte) []byte { clear(b); return b })
			}
		}, ErrMissing, true, nil},
		{"directory gone", func(t *testing.T, dir string, _ bool) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}, ErrMissing, false, nil},
	} {
		for _, stale := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/stale=%v", d.name, stale), func(t *testing.T) {
				dir, marker := filepath.Join(t.TempDir(), "journal"), &memMarker{m: new(*mark.m)}
				if err := os.CopyFS(dir, os.DirFS(templates[stale])); err != nil {
					t.Fatal(err)
				}
				d.do(t, dir, stale)
				j, err := tryOpen(t, Options{Dir: dir, Marker: marker})
				if d.err == nil {
					if err != nil {
						t.Fatal(err)
					}
					d.want(t, j, lastOf, stale)
					if _, err := os.Stat(linksDir(dir)); err == nil {
						t.Error("the guard was left behind")
					}
					return
				}
				if d.emptied && !stale {
					if err != nil {
						t.Fatal(err)
					}
					if last := appendN(t, j, "r", damageEvents, 1); last != damageEvents+1 {
						t.Errorf("the next number is %d", last)
					}
					readGap(t, from1(t, j, 100), GapError{100, damageEvents, GapRetention})
					return
				}
				var typed *Error
				if !errors.Is(err, d.err) || !errors.As(err, &typed) || !strings.Contains(err.Error(), "--journal-set-aside") {
					t.Fatalf("got %v, want %v", err, d.err)
				}
				// Refused again and again, with nothing deleted.
				if _, err := tryOpen(t, Options{Dir: dir, Marker: marker}); !errors.Is(err, d.err) {
					t.Fatalf("the second time: %v", err)
				}
				before := marker.m.Stream
				j, err = tryOpen(t, Options{Dir: dir, Marker: marker, SetAside: true})
				if err != nil {
					t.Fatal(err)
				}
				if rep := j.Report(); rep.SetAside == "" || !rep.Created {
					t.Errorf("%+v", rep)
				} else if _, err := os.Stat(rep.SetAside); err != nil {
					t.Error(err)
				}
				if marker.m.Stream == before || marker.m.Seq != 0 {
					t.Errorf("the marker is %+v", marker.m)
				}
				if last := appendN(t, j, "r", 0, 1); last != 1 {
					t.Errorf("it begins with %d", last)
				}
			})
		}
	}
}

// If a block cannot be read while the journal is open, the server tries it for ever, but the reader
// continues after it.
func TestReaderPassesAnUnreadableBlock(t *testing.T) {
	dir, marker, lastOf := prepare(t, false)
	j := open(t, Options{Dir: dir, Marker: marker})
	// The server has the file open. So it is restarted here without the check of the blocks that a
	// start of the journal makes.
	old := j.runs.current()
	j.runs.set(nil)
	old.blocks.close()
	old.stop()
	if err := os.Remove(block(dir, 2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(block(dir, 2), 0o700); err != nil {
		t.Fatal(err)
	}
	run, err := startServer(t.Context(), j.o)
	if err != nil {
		t.Fatal(err)
	}
	var report OpenReport
	if run, err = j.openStream(t.Context(), run, marker.m, &report); err == nil {
		run.blocks = &blocks{dir: run.msgs, fsync: j.o.fsync}
	}
	if err != nil {
		t.Fatal(err)
	}
	j.runs.set(run)
	r := from1(t, j, lastOf[0])
	if seqs, _ := readN(t, r, 1); seqs[0] != lastOf[0] {
		t.Fatal(seqs)
	}
	readGap(t, r, GapError{lastOf[0] + 1, lastOf[1], GapLost})
	if seqs, _ := readN(t, r, damageEvents-int(lastOf[1])); seqs[0] != lastOf[1]+1 {
		t.Errorf("behind it begins with %d", seqs[0])
	}
	if got := value(t, j.m.gapEvents.WithLabelValues("lost")); got != float64(lastOf[1]-lastOf[0]) {
		t.Errorf("%v counted", got)
	}
}

// If a start was killed after the server had deleted the stream, the hard links remain, and the
// next start uses them.
func TestGuardOfAnEarlierStart(t *testing.T) {
	dir, marker, _ := prepare(t, true)
	if _, err := linkBlocks(dir, time.Now(), (*os.File).Sync, scope{bytes: verifyBytes}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(streamDir(dir)); err != nil {
		t.Fatal(err)
	}
	j := open(t, Options{Dir: dir, Marker: marker})
	if n, gaps := contents(t, j, 1); n != damageEvents || len(gaps) != 0 || !j.Report().Restored || j.Report().Unreadable != "" {
		t.Errorf("%d events, gaps %v, %+v", n, gaps, j.Report())
	}
}

func wantReport(t *testing.T, j *Journal, gap *GapError) {
	t.Helper()
	got := j.Report().Gap
	if (got == nil) != (gap == nil) || got != nil && *got != *gap {
		t.Errorf("the report's gap is %v, want %v", got, gap)
	}
}
