package influx

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/nanopack/pulse/journal"
)

func TestExtentsHoldEveryRecordAndStaySmall(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var x journal.Spans
		var added []uint64
		seq := uint64(1)
		for range rng.IntN(100) {
			seq += 1 + rng.Uint64N(3*extentGap)
			x = takeIn(x, seq)
			added = append(added, seq)
		}
		x = takeIn(x, seq) // adding it again changes nothing
		if len(x) > maxExtents {
			t.Fatalf("%d extents", len(x))
		}
		for i, e := range x {
			if e.First > e.Last || i > 0 && e.First <= x[i-1].Last {
				t.Fatalf("not in order: %v", x)
			}
		}
		cut := x.Within(journal.Span{Last: seq - 1})
		for _, s := range added {
			in := func(x journal.Spans) bool {
				for _, e := range x {
					if s >= e.First && s <= e.Last {
						return true
					}
				}
				return false
			}
			if !in(x) {
				t.Fatalf("%d is not in %v", s, x)
			}
			if in(cut) != (s < seq) {
				t.Fatalf("%d in what is before %d: %v", s, seq, cut)
			}
		}
	}
}

func TestIndexFindsAndPrunes(t *testing.T) {
	x := windowIndex{db: openDB(t), keep: 5, retention: 100}
	if err := x.begin(1000); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := x.find("", 7); ok || err != nil {
		t.Fatalf("found in an empty index: %v", err)
	}
	put := func(start, end int64, last uint64) {
		t.Helper()
		if err := x.save([]*window{{edge: &edgeWindows{}, start: start, end: end, records: journal.Spans{{First: 1, Last: last}}}}); err != nil {
			t.Fatal(err)
		}
	}
	put(-20, -10, 10)
	put(0, 10, 20)
	put(10, 20, 30)
	put(40, 50, 40)
	for _, tt := range []struct {
		t          int64
		start, end int64
		known      bool
	}{{-20, -20, -10, true}, {-11, -20, -10, true}, {-10, -10, 0, false}, {9, 0, 10, true}, {10, 10, 20, true}, {30, 20, 40, false}, {49, 40, 50, true}} {
		e, ok, err := x.find("", tt.t)
		if err != nil || ok != tt.known || e.start != tt.start || e.end != tt.end {
			t.Errorf("find(%d) = %+v, %t, %v", tt.t, e, ok, err)
		}
	}
	// Within the retention no entry is deleted. Beyond it the oldest are deleted until five are
	// left.
	put(50, 60, 50)
	put(60, 70, 60)
	if _, ok, _ := x.find("", -20); !ok || x.n[""] != 6 {
		t.Errorf("pruned within the retention: %d", x.n[""])
	}
	put(110, 120, 60)
	if _, ok, _ := x.find("", -20); ok || x.n[""] != 5 {
		t.Errorf("not pruned beyond the retention: %d", x.n[""])
	}
	// The journal lost its last records: the index forgets the records after 25.
	if err := x.begin(25); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]uint64{10: 25, 40: 25, 110: 25} {
		if e, ok, err := x.find("", at); !ok || err != nil || e.records.Last() != want {
			t.Errorf("find(%d) = %+v, %t, %v", at, e, ok, err)
		}
	}
	if err := x.begin(0); err != nil || x.n[""] != 0 {
		t.Errorf("%d entries are left without a journal, %v", x.n[""], err)
	}
}

func FuzzIndexEntry(f *testing.F) {
	e := indexEntry{start: -60, end: 0, records: journal.Spans{{First: 1, Last: 5}, {First: 20_000, Last: 20_000}}}
	f.Add(indexKey(nil, e.start), e.encode())
	f.Add(indexKey(nil, 0), []byte{indexVersion, 1, 1, 0})
	f.Add(indexKey(nil, 0), []byte{indexVersion, 1, 5, 0, 1, 0})
	f.Add([]byte("short"), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := decodeIndexEntry(key, value)
		if err != nil {
			return
		}
		if e.end <= e.start || len(e.records) == 0 {
			t.Fatalf("accepted %+v", e)
		}
		last := uint64(0)
		for _, x := range e.records {
			if x.First <= last || x.Last < x.First {
				t.Fatalf("accepted %+v", e)
			}
			last = x.Last
		}
		again, err := decodeIndexEntry(indexKey(nil, e.start), e.encode())
		if err != nil || again.start != e.start || again.end != e.end || len(again.records) != len(e.records) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
		if !bytes.Equal(again.encode(), e.encode()) {
			t.Fatal("not stable")
		}
	})
}
