package projector_test

import (
	"testing"
	"time"

	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRejectsReplace(t *testing.T) {
	r := projector.NewRejects(projectortest.OpenDB(t))
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	reject := func(projection string, seq uint64, at time.Time) projector.Reject {
		return projector.Reject{Projection: projection, Seq: seq, Relay: "web1", Stat: "cpu", Reason: "no", Time: at}
	}
	for seq := range uint64(5) {
		if err := r.Add(reject("p", seq, began), reject("q", seq, began)); err != nil {
			t.Fatal(err)
		}
	}
	// Records 1 to 3 were tried again: 2 is still refused, and 9 is refused now.
	tried := func(rej projector.Reject) bool { return rej.Seq >= 1 && rej.Seq <= 3 }
	for range 2 {
		if err := r.Replace("p", tried, reject("p", 2, began.Add(time.Hour)), reject("p", 9, began.Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint64]time.Time)
	others := 0
	for _, rej := range list {
		if rej.Projection == "p" {
			at[rej.Seq] = rej.Time
		} else {
			others++
		}
	}
	want := map[uint64]time.Time{0: began, 2: began, 4: began, 9: began.Add(time.Hour)}
	if len(at) != len(want) || others != 5 {
		t.Fatalf("listed are %v and %d of another projection", at, others)
	}
	for seq, time := range want {
		if !at[seq].Equal(time) {
			t.Errorf("%d is of %v, want %v", seq, at[seq], time)
		}
	}
	// A removed reject can be listed again.
	if err := r.Add(reject("p", 1, began)); err != nil {
		t.Fatal(err)
	}
	if list, err := r.List(); err != nil || len(list) != 10 {
		t.Fatalf("%d listed, %v", len(list), err)
	}
	if err := r.Replace("p", tried, reject("q", 1, began)); err == nil {
		t.Fatal("a reject of another projection was taken")
	}
	if list, err := r.List(); err != nil || len(list) != 10 {
		t.Fatalf("%d listed after a Replace that failed, %v", len(list), err)
	}
}

func TestRejectsReplaceStaysBounded(t *testing.T) {
	r := projector.NewRejects(projectortest.OpenDB(t))
	var many []projector.Reject
	for seq := range uint64(1500) {
		many = append(many, projector.Reject{Projection: "p", Seq: seq, Reason: "no"})
	}
	for range 3 {
		if err := r.Replace("p", func(projector.Reject) bool { return true }, many...); err != nil {
			t.Fatal(err)
		}
		if list, err := r.List(); err != nil || len(list) != 1000 {
			t.Fatalf("%d listed, %v", len(list), err)
		}
	}
}
