package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, maximum int64) *Log {
	t.Helper()
	l, err := Open(dir, maximum)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// kill returns a copy of the directory as it is at this moment: what a process that is killed
// leaves.
func kill(t testing.TB, dir string) string {
	t.Helper()
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// drain takes everything that waits out of the spool, newest batch first, and checks the batches.
func drain(t testing.TB, l *Log, n int) map[uint64]string {
	t.Helper()
	all := map[uint64]string{}
	for {
		batch := l.Newest(n)
		if len(batch) == 0 {
			break
		}
		if len(batch) > n {
			t.Fatalf("a batch of %d, asked for %d", len(batch), n)
		}
		for i, r := range batch {
			if r.Seq != batch[0].Seq+uint64(i) || all[r.Seq] != "" {
				t.Fatalf("batch %d to %d has %d at %d", batch[0].Seq, batch[len(batch)-1].Seq, r.Seq, i)
			}
			all[r.Seq] = string(r.Items)
		}
	}
	if st := l.State(); st.Waiting != 0 {
		t.Fatalf("%d wait after all was handed over", st.Waiting)
	}
	return all
}

// TestAgainstModel does random things to a spool and to a model of it, and kills the process now
// and then. After a kill everything is as before. After a loss of the machine's power, which cuts
// the newest file anywhere after its first line, what is read is right, and no number is used again.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 14))
			dir := t.TempDir()
			l := open(t, dir, MinBytes)
			written := map[uint64]string{} // every record that was ever appended
			readings := map[uint64]int{}
			waiting, out := map[uint64]bool{}, map[uint64]bool{}
			dropped, highest := uint64(0), uint64(0)
			check := func(what string) {
				t.Helper()
				if st := l.State(); st.Waiting != len(waiting)-len(out) || st.Dropped != dropped || st.Damaged != 0 || st.Failures != 0 || st.Bytes > MinBytes+int64(l.segmentSize)*int64(2+len(out)) {
					t.Fatalf("after %s: %+v; the model has %d waiting, %d out, %d dropped", what, st, len(waiting), len(out), dropped)
				}
			}
			// noteDrops finds what the bound dropped: whole segments, the oldest first.
			noteDrops := func() {
				for seq := range waiting {
					if !held(l, seq) {
						if out[seq] {
							t.Fatalf("%d was on its way and was dropped", seq)
						}
						dropped += uint64(readings[seq])
						delete(waiting, seq)
					}
				}
			}
			for range 400 {
				switch op := rnd.IntN(20); {
				case op < 11:
					text := fmt.Sprintf("c-s:%d,", rnd.Int()) + string(bytes.Repeat([]byte("x"), rnd.IntN(4000)))
					live := rnd.IntN(4) == 0
					seq := l.Append(int64(seed), len(text), []byte(text), live)
					if seq <= highest {
						t.Fatalf("number %d after %d", seq, highest)
					}
					highest = seq
					written[seq], readings[seq], waiting[seq] = text, len(text), true
					if live {
						out[seq] = true
					}
					noteDrops()
					check("append")
				case op < 14:
					var r Range
					for seq := range waiting {
						if r.First == 0 || rnd.IntN(4) == 0 {
							r = Range{seq, seq + uint64(rnd.IntN(20))}
						}
					}
					l.Keep(r)
					for seq := r.First; seq <= r.Last; seq++ {
						delete(waiting, seq)
						delete(out, seq)
					}
					check("keep")
				case op < 16:
					for _, r := range l.Newest(1 + rnd.IntN(20)) {
						if !waiting[r.Seq] || out[r.Seq] || string(r.Items) != written[r.Seq] || r.Readings != readings[r.Seq] || r.Time != int64(seed) {
							t.Fatalf("handed over %d: waiting %v, out %v, %q", r.Seq, waiting[r.Seq], out[r.Seq], r.Items)
						}
						out[r.Seq] = true
					}
					check("recall")
				case op < 17:
					l.Return(Range{1, highest})
					clear(out)
					check("return")
				case op < 19:
					l.SetInterval("c", time.Duration(1+rnd.IntN(9))*time.Second)
				default:
					id, every := l.ID(), l.Interval("c")
					dir = kill(t, dir)
					l.Close()
					l = open(t, dir, MinBytes)
					clear(out)
					noteDrops() // the new file can be one too many
					if l.ID() != id || l.Interval("c") != every {
						t.Fatalf("after a kill: %s every %v, want %s every %v", l.ID(), l.Interval("c"), id, every)
					}
					check("kill")
				}
			}
			// The end: the power fails, which cuts the newest file anywhere.
			id := l.ID()
			dir = kill(t, dir)
			names := files(t, dir)
			newest := names[len(names)-1]
			b, err := os.ReadFile(newest)
			if err != nil {
				t.Fatal(err)
			}
			head := bytes.IndexByte(b, '\n') + 1 // was synced
			if err := os.Truncate(newest, int64(head+rnd.IntN(len(b)-head+1))); err != nil {
				t.Fatal(err)
			}
			after := open(t, dir, MinBytes)
			if seq := after.Append(1, 1, []byte("c:1"), true); seq <= highest && after.ID() == id {
				t.Fatalf("number %d again; %d was used", seq, highest)
			}
			for seq, text := range drain(t, after, 1+rnd.IntN(50)) {
				if written[seq] != text {
					t.Fatalf("%d is %q, was %q", seq, text, written[seq])
				}
			}
		})
	}
}

// held reports whether the spool has the record and it is not gone.
func held(l *Log, seq uint64) bool {
	return !l.gone.has(seq) && slices.ContainsFunc(l.segments, func(s *segment) bool { return s.first > 0 && s.first <= seq && seq <= s.last })
}

// TestDamage: each byte of a file in turn is another one. What can be read is right; the rest is
// counted, not handed over and not named again after the next start.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	written := map[uint64]string{}
	for i := range 4 {
		text := fmt.Sprintf("c-s:%d", i)
		written[l.Append(7, 1, []byte(text), false)] = text
	}
	l.Keep(Range{2, 2})
	whole, err := os.ReadFile(files(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, b := range []byte{0, '\n', whole[i] ^ 1} {
			dir := kill(t, dir)
			damaged := bytes.Clone(whole)
			damaged[i] = b
			if err := os.WriteFile(files(t, dir)[0], damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(dir, 0)
			if err != nil {
				t.Fatal(err)
			}
			st := l.State()
			got := drain(t, l, 10)
			if seq := l.Append(1, 1, nil, true); seq <= 4 {
				t.Fatalf("byte %d: number %d again", i, seq)
			}
			for seq, text := range got {
				if written[seq] != text {
					t.Fatalf("byte %d: %d is %q", i, seq, text)
				}
			}
			if b != whole[i] && (len(got) < 1 || st.Damaged == 0 && i != len(whole)-1) {
				t.Fatalf("byte %d is %q: %d records, %+v", i, b, len(got), st)
			}
			l.Close()
		}
	}
}

// TestDamagedLater: a record that is damaged after the start is counted, and its neighbours are
// handed over.
func TestDamagedLater(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	for i := range 5 {
		l.Append(7, 1, fmt.Appendf(nil, "c-s:%d", i), false)
	}
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("c-s:2"), []byte("c-s:9"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := l.Newest(10); len(r) != 2 || r[0].Seq != 4 {
		t.Fatalf("%v", r)
	}
	if r := l.Newest(10); len(r) != 2 || r[0].Seq != 1 {
		t.Fatalf("%v", r)
	}
	if st := l.State(); st.Damaged != 1 || st.Waiting != 0 || st.Failures != 0 {
		t.Fatalf("%+v", st)
	}
	l.Return(Range{1, 5})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := l.Newest(10); r != nil || l.State().Failures != 1 || l.State().Waiting != 0 {
		t.Fatalf("%v, %+v of a segment that cannot be read", r, l.State())
	}
}

// TestNothingLeft: numbers are not used again when all that is known is lost: the spool is another
// one then.
func TestNothingLeft(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	l.Append(1, 1, []byte("c:1"), false)
	old := l.ID()
	l.Close()
	if err := os.Truncate(files(t, dir)[0], 3); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, 0)
	if seq := l.Append(1, 1, []byte("c:1"), false); l.ID() == old || seq != 1 || len(files(t, dir)) != 1 {
		t.Fatalf("id %s (was %s), number %d, files %v", l.ID(), old, seq, files(t, dir))
	}
}

// TestDiskFails: readings go on in memory while the disk takes nothing, within the bound of the
// memory, and in files again later. What the memory holds is handed over like the rest.
func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	l.Append(1, 1, []byte("c:1"), false)
	l.newest().file.Close() // from here each write fails
	for range 2 * DefaultMemory / 1000 {
		l.Append(1, 3, bytes.Repeat([]byte("x"), 1000), false)
	}
	st := l.State()
	if st.Failures != 1 || !errors.Is(st.LastError, os.ErrClosed) || st.Dropped == 0 || st.Bytes > DefaultMemory+2*l.segmentSize {
		t.Fatalf("%+v", st)
	}
	if kept := uint64(st.Waiting-1)*3 + st.Dropped; kept != 2*DefaultMemory/1000*3 {
		t.Fatalf("%d readings are accounted for: %+v", kept, st)
	}
	l.retry = time.Time{}
	last := l.Append(1, 1, []byte("c:2"), false)
	after := open(t, kill(t, dir), 0)
	if got := drain(t, after, 10); len(got) != 2 || got[1] != "c:1" || got[last] != "c:2" {
		t.Fatalf("on the disk are %v", got)
	}
	if after.State().Dropped != st.Dropped {
		t.Errorf("dropped: %d, was %d", after.State().Dropped, st.Dropped)
	}
	if got := drain(t, l, 100); len(got) != st.Waiting+1 {
		t.Fatalf("%d handed over, want %d", len(got), st.Waiting+1)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, 0)
	if _, err := Open(dir, 0); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Open: %v", err)
	}
	l.Close()
	l = open(t, dir, 0)
	l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, 0); err == nil {
		t.Error("a file is not a directory")
	}
	if err := os.WriteFile(filepath.Join(dir, "00000000-0000000009.spool"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, 0); err == nil {
		t.Error("two spools in one directory")
	}
}

// TestSteady: a spool whose records are kept at once stays small.
func TestSteady(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		l := open(t, dir, MinBytes)
		for range 5000 {
			seq := l.Append(1, 1, []byte("cpu-used:25.5,ram-used:12.25"), true)
			l.Keep(Range{1, seq})
		}
		if st := l.State(); st.Bytes > l.segmentSize+1000 || st.Waiting != 0 || st.Dropped != 0 || len(l.gone) > 1 {
			t.Errorf("%q: %+v, %v", dir, st, l.gone)
		}
	}
}

func TestRanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var rs ranges
		var set [64]bool
		for range 40 {
			r := Range{1 + rnd.Uint64N(60), 0}
			r.Last = min(r.First+rnd.Uint64N(8), 63)
			add := rnd.IntN(2) == 0
			if add {
				rs.add(r)
			} else {
				rs.remove(r)
			}
			for n := r.First; n <= r.Last; n++ {
				set[n] = add
			}
		}
		for first := uint64(1); first < 64; first++ {
			n := 0
			for last := first; last < 64; last++ {
				if set[last] {
					n++
				}
				if rs.has(last) != set[last] || rs.count(Range{first, last}) != n {
					t.Fatalf("%v: has(%d) or count(%d..%d)", rs, last, first, last)
				}
			}
		}
		for i := 1; i < len(rs); i++ {
			if rs[i].First <= rs[i-1].Last+1 {
				t.Fatalf("%v", rs)
			}
		}
	}
}
