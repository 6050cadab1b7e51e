package projector_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestPositions(t *testing.T) {
	db := projectortest.OpenDB(t)
	p := projector.NewPositions(db)
	if seq, err := p.Load("a"); err != nil || seq != 0 {
		t.Fatalf("%d, %v", seq, err)
	}
	for _, seq := range []uint64{7, 1<<63 + 5, 3} {
		if err := p.Save("a", seq); err != nil {
			t.Fatal(err)
		}
		if err := p.Save("b", seq+1); err != nil {
			t.Fatal(err)
		}
		if got, err := projector.NewPositions(db).Load("a"); err != nil || got != seq {
			t.Fatalf("saved %d, loaded %d, %v", seq, got, err)
		}
	}
	if seq, err := p.Newest(); err != nil || seq != 4 {
		t.Fatalf("the newest is %d, %v", seq, err)
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	if seq, err := p.Newest(); err != nil || seq != 0 {
		t.Fatalf("cleared, and the newest is %d, %v", seq, err)
	}
	if seq, err := p.Load("b"); err != nil || seq != 0 {
		t.Fatalf("cleared, and there is %d, %v", seq, err)
	}
	if err := p.Clear(); err != nil {
		t.Fatal(err)
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("positions"))
		if err != nil {
			return err
		}
		return b.Put([]byte("a"), []byte("short"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Load("a"); err == nil {
		t.Fatal("a damaged position was taken")
	}
}

func TestRejectsAreBoundedListedOnceAndNewestFirst(t *testing.T) {
	r := projector.NewRejects(projectortest.OpenDB(t))
	if list, err := r.List(); err != nil || list == nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	began := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	other := projector.Reject{Projection: "q", Seq: 1, Reason: "keeps its place", Time: began}
	if err := r.Add(other, other); err != nil {
		t.Fatal(err)
	}
	var many []projector.Reject
	for i := range 1500 {
		many = append(many, projector.Reject{Projection: "p", Seq: uint64(i / 2), Stat: fmt.Sprint("s", i%2), Relay: "web1", Count: i, Reason: "no",
			Time: began.Add(time.Duration(i) * time.Second)})
	}
	for from := 0; from < len(many); from += 300 {
		for range 2 { // adding the same rejects again changes nothing
			if err := r.Add(many[from : from+300]...); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := r.List()
	if err != nil || len(list) != 1001 {
		t.Fatalf("%d listed, %v", len(list), err)
	}
	if list[0] != many[1499] || list[999] != many[500] || list[1000] != other {
		t.Fatalf("listed from %+v to %+v and %+v", list[0], list[999], list[1000])
	}
	if err := r.Add(projector.Reject{Seq: 1}); err == nil {
		t.Fatal("a reject of no projection was taken")
	}
}

func TestRunnerPositionCannotBeSaved(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		reg := prometheus.NewRegistry()
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db),
			Rejects: projector.NewRejects(db), Registerer: reg})
		projectortest.Start(t, r)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		m.Append(projectortest.Event("a", 1))
		m.AppendBad(codec.ErrDecode)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.Applied != 2 || s.State != projector.StateLive {
			t.Fatalf("it did not go on: %+v", s)
		}
		if n := projectortest.Metric(t, reg, "pulse_projector_state_write_failures_total"); n < 3 {
			t.Fatalf("%v failures counted", n)
		}
		if err := r.Drain(t.Context()); err == nil {
			t.Fatal("the last position was not saved, and Drain says nothing")
		}
	})
}

// stubborn is a projection that cannot begin.
type stubborn struct{ *projectortest.Recorder }

func (stubborn) Begin(context.Context, projector.Origin) error { return errors.New("cannot begin") }

func TestRunnerStartFailsWhenTheProjectionCannotBegin(t *testing.T) {
	m := projectortest.NewMemory()
	r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: stubborn{&projectortest.Recorder{ID: "p"}}, Journal: m, Positions: projector.NewPositions(projectortest.OpenDB(t))})
	if err := r.Start(t.Context()); err == nil {
		t.Fatal("started")
	}
	r.Stop()
	if s := r.Status(); s.State != projector.StateStopped || m.OpenReaders() != 0 {
		t.Fatalf("status %+v, %d readers", s, m.OpenReaders())
	}
}
