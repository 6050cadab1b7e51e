package journal

import (
	"testing"
)

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	j := open(t, Options{Dir: dir})
	if !j.Report().Created {
		t.Error("the report does not say that the journal is new")
	}
	last := appendN(t, j, "web1", 0, 100)
	if last != 100 {
		t.Fatalf("the hundredth event got number %d", last)
	}
	seqs, times := readN(t, from1(t, j, 1), 100)
	for i := range seqs {
		if seqs[i] != uint64(i+1) || times[i] != sample("", i).Time {
			t.Fatalf("record %d: number %d, time %d", i, seqs[i], times[i])
		}
	}
	closeJournal(t, j)

	j = open(t, Options{Dir: dir})
	if rep := j.Report(); rep != (OpenReport{}) {
		t.Errorf("an ordinary start reports %+v", rep)
	}
	r := from1(t, j, 50)
	if seqs, _ := readN(t, r, 51); seqs[0] != 50 || seqs[50] != 100 {
		t.Fatalf("from 50 it read %d to %d", seqs[0], seqs[50])
	}
	if n := r.Pending(); n != 0 {
		t.Errorf("%d pending at the end", n)
	}
	if last := appendN(t, j, "web1", 100, 1); last != 101 {
		t.Fatalf("after a restart the next number is %d", last)
	}
	if seqs, _ := readN(t, r, 1); seqs[0] != 101 {
		t.Fatalf("the reader went on at %d", seqs[0])
	}
}
