package journaltest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpen(t *testing.T) {
	j := journaltest.Open(t)
	other := journaltest.Open(t) // two in one process
	e := journaltest.Event("web1", 42, "cpu", []string{"guy"}, codec.Stat{ID: "used", Value: 0.5})
	if last := journaltest.Append(t, j, e, e); last != 2 {
		t.Fatalf("the last number is %d", last)
	}
	if last := journaltest.Append(t, other, e); last != 1 {
		t.Fatalf("the other journal's number is %d", last)
	}
	r, err := j.ReadFrom(2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	recs, err := r.Read(t.Context(), 10)
	if err != nil || len(recs) != 1 || recs[0].Event.Relay != "web1" || recs[0].Event.Readings() != 1 {
		t.Fatalf("%+v, %v", recs, err)
	}
}
