package journal

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// smallBlock returns the first block of a journal with that many events, as the server wrote it.
func smallBlock(t testing.TB, events int) []byte {
	t.Helper()
	dir := t.TempDir()
	j, err := Open(t.Context(), Options{Dir: dir, Sync: SyncEvery(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if _, err := j.Append(t.Context(), sample("r", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(block(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func scanned(t testing.TB, data []byte) blockScan {
	t.Helper()
	sum, err := blockHash(1)
	if err != nil {
		t.Fatal(err)
	}
	return scanBlock(data, sum)
}

// starts returns the offsets of the records in an intact block.
func starts(data []byte) (list []int) {
	for at := 0; at < len(data); at += int(binary.LittleEndian.Uint32(data[at:]) &^ lengthHeaders) {
		list = append(list, at)
	}
	return list
}

func TestScanBlock(t *testing.T) {
	const events = 200
	data := smallBlock(t, events)
	begin := starts(data)
	if len(begin) != events {
		t.Fatalf("%d records", len(begin))
	}
	whole := func(b []byte) []byte { return b }
	for _, tt := range []struct {
		name        string
		do          func(b []byte) []byte
		first, last uint64
		lost        []Span
		inside      bool
		torn        bool
		tail        int // offset from the end
	}{
		{"nothing", whole, 1, events, nil, false, false, 0},
		{"a bit of a length", func(b []byte) []byte { b[begin[4]] ^= 4; return b }, 1, events, []Span{{5, 5}}, true, false, 0},
		{"the high bit of a length", func(b []byte) []byte { b[begin[4]+3] ^= 0x40; return b }, 1, events, []Span{{5, 5}}, true, false, 0},
		{"a number", func(b []byte) []byte { b[begin[4]+4] ^= 1; return b }, 1, events, []Span{{5, 5}}, true, false, 0},
		{"a byte of an event", func(b []byte) []byte { b[begin[4]+60] ^= 1; return b }, 1, events, []Span{{5, 5}}, true, false, 0},
		{"the first record", func(b []byte) []byte { b[0] ^= 1; return b }, 2, events, []Span{{0, 1}}, true, false, 0},
		{"two places", func(b []byte) []byte { b[begin[4]] ^= 1; b[begin[100]+30] ^= 1; return b }, 1, events, []Span{{5, 5}, {101, 101}}, true, false, 0},
		{"ten records overwritten", func(b []byte) []byte { clear(b[begin[10]+3 : begin[20]-3]); return b }, 1, events, []Span{{11, 20}}, true, false, 0},
		{"the last record", func(b []byte) []byte { b[len(b)-20] ^= 1; return b }, 1, events - 1, []Span{{events, 0}}, false, false, len(data) - begin[events-1]},
		{"cut in the last record", func(b []byte) []byte { return b[:len(b)-30] }, 1, events - 1, nil, false, true, len(data) - begin[events-1] - 30},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, 1, events, nil, false, true, 5000},
		{"garbage at the end", func(b []byte) []byte { return append(b, slices.Repeat([]byte{0xa5}, 500)...) }, 1, events, []Span{{events + 1, 0}}, false, false, 500},
		{"garbage only", func(b []byte) []byte { return slices.Repeat([]byte{0xa5}, 500) }, 0, 0, []Span{{0, 0}}, false, false, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.do(slices.Clone(data))
			s := scanned(t, b)
			if s.first != tt.first || s.last != tt.last || !slices.Equal(s.lost, tt.lost) || s.inside != tt.inside || s.torn != tt.torn || s.tail != len(b)-tt.tail {
				t.Errorf("%+v", s)
			}
		})
	}
}

// However a block is damaged, the kept records are intact records of the original, in order, and
// include every record that the damage did not touch.
func TestScanBlockProperty(t *testing.T) {
	const events = 100
	data := smallBlock(t, events)
	begin := append(starts(data), len(data))
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 300 {
		b := slices.Clone(data)
		touched := make(map[int]bool) // records that the damage touched
		for range 1 + rng.IntN(4) {
			from := rng.IntN(len(b))
			to := min(len(b), from+1+rng.IntN(1+rng.IntN(1500)))
			for i := from; i < to; i++ {
				b[i] = byte(rng.Uint32())
			}
			for i := range events {
				if from < begin[i+1] && to > begin[i] {
					touched[i] = true
				}
			}
		}
		var kept []byte
		s := scanned(t, b)
		for _, e := range s.records {
			kept = append(kept, b[e.from:e.to]...)
		}
		again := scanned(t, kept)
		if len(again.lost) != 0 || again.inside {
			t.Fatalf("seed %d, round %d: what was kept is damaged: %+v", seed, round, again)
		}
		found := 0
		for i := range events {
			record := data[begin[i]:begin[i+1]]
			if found < len(kept) && len(kept)-found >= len(record) && slices.Equal(kept[found:found+len(record)], record) {
				found += len(record)
			} else if !touched[i] {
				t.Fatalf("seed %d, round %d: record %d was not touched and is not kept", seed, round, i+1)
			}
		}
		if found != len(kept) {
			t.Fatalf("seed %d, round %d: %d bytes are kept that are no record of the original", seed, round, len(kept)-found)
		}
	}
}

func FuzzScanBlock(f *testing.F) {
	f.Add([]byte{}, 0, byte(0))
	f.Add(smallBlock(f, 3), 10, byte(4))
	f.Fuzz(func(t *testing.T, data []byte, at int, flip byte) {
		data = slices.Clone(data)
		if at >= 0 && at < len(data) {
			data[at] ^= flip
		}
		s, end := scanned(t, data), 0
		for _, e := range s.records {
			if e.from < end || e.to <= e.from || e.to > len(data) {
				t.Fatalf("records %v of %d bytes", s.records, len(data))
			}
			end = e.to
		}
		if s.tail < end || s.tail > len(data) || s.first > s.last {
			t.Fatalf("%+v", s)
		}
	})
}

func BenchmarkScanBlock(b *testing.B) {
	data := smallBlock(b, 5000)
	sum, err := blockHash(1)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		scanBlock(data, sum)
	}
}
