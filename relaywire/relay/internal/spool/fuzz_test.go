package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen reads any bytes as the files of a spool. Open reads what makes sense; what it found is
// handed over once, and new numbers are above it.
func FuzzOpen(f *testing.F) {
	record := appendRecord(nil, Record{Seq: 3, Time: 1, Readings: 2, Items: []byte("a:1,b:2")})
	f.Add(appendHead(nil, 1, 0), []byte{})
	f.Add(append(appendHead(nil, 3, 7), record...), appendGone(nil, Range{2, 9}, 8))
	f.Add(append(record, record...), appendRecord(nil, Record{Seq: maxNumber, Items: nil}))
	f.Add(appendEvery(nil, "cpu", 1e9), bytes.Repeat([]byte("x"), maxLine+9))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		for i, b := range [][]byte{one, two} {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("0badcafe-%010d.spool", i+1)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		highest := uint64(0)
		for range 2 { // the second Open reads what the first wrote
			l := open(t, dir, MinBytes)
			seq := l.Append(5, 1, []byte("c:1"), false)
			if seq <= highest {
				t.Fatalf("number %d after %d", seq, highest)
			}
			highest = seq
			got := drain(t, l, 7)
			if got[seq] != "c:1" {
				t.Fatalf("%v lacks %d", got, seq)
			}
			for n := range got {
				if n > seq {
					t.Fatalf("%d is above the newest number %d", n, seq)
				}
			}
			l.Keep(Range{1, seq})
			if st := l.State(); st.Waiting != 0 || len(l.segments) != 1 {
				t.Fatalf("%+v", st)
			}
			l.Close()
		}
	})
}
