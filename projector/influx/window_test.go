package influx

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

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

// TestIndexOfEdges: each edge has windows of its own, whatever its name, and those of the own relays
// stay where they were before there were edges.
func TestIndexOfEdges(t *testing.T) {
	x := windowIndex{db: openDB(t), keep: 2, retention: 10}
	if err := x.begin(1000); err != nil {
		t.Fatal(err)
	}
	names := []string{"", "a", "a-", "ab", "b"}
	for i, name := range names {
		for at := range int64(3) {
			w := &window{edge: &edgeWindows{name: name}, start: 10*at - 10 + int64(i), end: 10*at + int64(i), records: journal.Spans{{First: 1, Last: uint64(100 + i)}}}
			if err := x.save([]*window{w}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if edges, err := x.edges(); err != nil || !slices.Equal(edges, names) {
		t.Fatalf("edges: %q, %v", edges, err)
	}
	for i, name := range names {
		oldest, _, err := x.oldest(name)
		newest, _, err2 := x.newest(name, 1000)
		if err != nil || err2 != nil || oldest.start != int64(i) || newest.start != 10+int64(i) || x.n[name] != 2 {
			t.Errorf("%q: oldest %+v, newest %+v, %d entries, %v, %v", name, oldest, newest, x.n[name], err, err2)
		}
		if _, ok, err := x.newest(name, int64(i)); ok || err != nil {
			t.Errorf("%q has a window before its oldest, %v", name, err)
		}
		if e, ok, err := x.find(name, 12+int64(i)); !ok || err != nil || e.start != 10+int64(i) || e.records.Last() != uint64(100+i) {
			t.Errorf("%q: found %+v, %v", name, e, err)
		}
		if e, ok, err := x.find(name, 50); ok || err != nil || e.start != 20+int64(i) || e.end != math.MaxInt64 {
			t.Errorf("%q: free time %+v, %v", name, e, err)
		}
		n := 0
		if err := x.overlapping(name, -100, 100, func(indexEntry) { n++ }); err != nil || n != 2 {
			t.Errorf("%q has %d windows, %v", name, n, err)
		}
	}
	err := x.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("windows")).ForEach(func(k, _ []byte) error {
			if len(k) != 8 {
				t.Errorf("the key %x of an own window", k)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.begin(0); err != nil || x.n["ab"] != 0 {
		t.Errorf("%v, %v", x.n, err)
	}
	if edges, err := x.edges(); err != nil || len(edges) != 1 {
		t.Errorf("without a journal: %q, %v", edges, err)
	}
}
