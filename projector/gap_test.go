package projector_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRunnerReportsAGapAndGoesOn(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 20 {
			m.Append(event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		if err := positions.Save("p", 3); err != nil {
			t.Fatal(err)
		}
		m.Trim(8)
		m.Lose(12, 14)
		reg := prometheus.NewRegistry()
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Registerer: reg})
		start(t, r)
		synctest.Wait()
		want := append(numbers(8, 11), numbers(15, 20)...)
		if got := p.applied(); !slices.Equal(got, want) {
			t.Fatalf("applied %v, want %v", got, want)
		}
		s := r.Status()
		if s.Lost != 7 || len(s.Gaps) != 2 || s.Gaps[0].From != 4 || s.Gaps[0].To != 7 || s.Gaps[0].Count != 4 ||
			s.Gaps[0].Reason != journal.GapRetention || s.Gaps[1].Count != 3 {
			t.Fatalf("status %+v", s)
		}
		if g, l := metric(t, reg, "pulse_projector_gaps_total"), metric(t, reg, "pulse_projector_lost_records_total"); g != 2 || l != 7 {
			t.Fatalf("%v gaps with %v records counted", g, l)
		}
		r.Stop()
	})
}

func TestRunnerWithoutAPositionMissesNothingThatWasDroppedBefore(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 9 {
			m.Append(event("a", int64(i)))
		}
		m.Trim(6)
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		start(t, r)
		synctest.Wait()
		r.Stop()
		if s := r.Status(); s.Lost != 0 || !slices.Equal(p.applied(), numbers(6, 9)) {
			t.Fatalf("status %+v, applied %v", s, p.applied())
		}
	})
}

func TestRunnerPositionBeyondTheJournalsEnd(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		if err := positions.Save("p", 10); err != nil {
			t.Fatal(err)
		}
		m.Cut(4)
		p := &recorder{name: "p"}
		reg := prometheus.NewRegistry()
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Registerer: reg})
		start(t, r)
		if seq, err := positions.Load("p"); err != nil || seq != 4 {
			t.Fatalf("after Start the saved position is %d, %v: a crash now would skip new events", seq, err)
		}
		m.Append(event("b", 1), event("b", 2)) // records 5 and 6 again
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, []uint64{5, 6}) {
			t.Fatalf("applied %v", got)
		}
		if s := r.Status(); len(s.Gaps) != 1 || s.Gaps[0].From != 5 || s.Gaps[0].To != 10 || s.Gaps[0].Reason != journal.GapRewound {
			t.Fatalf("status %+v", s)
		}
		if p.spans[0] != (projector.Origin{Position: 4, First: 1, Last: 4}) {
			t.Fatalf("it began at %+v", p.spans)
		}
		// The same while the runner runs: the next call of the reader finds that the journal was
		// set back.
		m.Fail(errors.New("the server restarts"))
		synctest.Wait()
		m.Cut(5)
		m.Fail(nil)
		time.Sleep(3 * time.Second)
		m.Append(event("c", 1))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, []uint64{5, 6, 6}) {
			t.Fatalf("applied %v", got)
		}
		if n := metric(t, reg, "pulse_projector_set_back_total"); n != 2 {
			t.Fatalf("set back %v times", n)
		}
		if len(p.spans) != 2 || p.spans[1].Position != 5 {
			t.Fatalf("it began at %+v", p.spans)
		}
		r.Stop()
	})
}

func TestRunnerRejects(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		rejects := projector.NewRejects(db)
		positions := projector.NewPositions(db)
		for i := range 10 {
			m.Append(event("a", int64(i)))
		}
		m.AppendBad(&codec.DecodeError{Offset: 3, Reason: "not a number"})
		p := &recorder{name: "p", apply: func(records []journal.Record) error {
			for i := range records {
				if s := records[i].Seq; s == 4 || s == 9 {
					return &projector.RejectError{Reason: "field type conflict"}
				}
			}
			return nil
		}}
		reg := prometheus.NewRegistry()
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Rejects: rejects, Registerer: reg})
		start(t, r)
		synctest.Wait()
		r.Stop()
		want := []uint64{1, 2, 3, 5, 6, 7, 8, 10, 11}
		if got := p.applied(); !slices.Equal(got, want) {
			t.Fatalf("applied %v, want %v", got, want)
		}
		list, err := rejects.List()
		if err != nil {
			t.Fatal(err)
		}
		var seqs []uint64
		for _, rej := range list {
			seqs = append(seqs, rej.Seq)
			if rej.Projection != "p" || rej.Reason == "" || rej.Time.IsZero() || (rej.Seq != 11 && rej.Relay != "a") {
				t.Errorf("listed as %+v", rej)
			}
		}
		slices.Sort(seqs)
		if !slices.Equal(seqs, []uint64{4, 9, 11}) {
			t.Fatalf("listed %v", seqs)
		}
		if s := r.Status(); s.Rejected != 3 || s.Position != 11 {
			t.Fatalf("status %+v", s)
		}
		if n := metric(t, reg, "pulse_projector_rejected_records_total"); n != 3 {
			t.Fatalf("%v counted", n)
		}
	})
}

func TestRunnerRejectAsTheLastRecordMovesThePosition(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1), event("a", 2))
		p := &recorder{name: "p", apply: func(records []journal.Record) error {
			if records[len(records)-1].Seq == 2 {
				return &projector.RejectError{Reason: "no"}
			}
			return nil
		}}
		positions := projector.NewPositions(db)
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		start(t, r)
		synctest.Wait()
		r.Stop()
		if seq, _ := positions.Load("p"); seq != 2 {
			t.Fatalf("position %d", seq)
		}
	})
}

func TestRunnerReaderFails(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var log lockedBuffer
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Logger: logTo(&log)})
		start(t, r)
		m.Append(event("a", 1))
		synctest.Wait()
		m.Fail(errors.New("the journal restarts"))
		time.Sleep(10 * time.Second)
		if s := r.Status(); s.State != projector.StateFailing || !strings.Contains(s.LastError, "the journal restarts") {
			t.Fatalf("status %+v", s)
		}
		m.Fail(nil)
		m.Append(event("a", 2))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, numbers(1, 2)) {
			t.Fatalf("applied %v", got)
		}
		if s := r.Status(); s.State != projector.StateLive || s.LastError != "" {
			t.Fatalf("status %+v", s)
		}
		r.Stop()
		if n := m.OpenReaders(); n != 0 {
			t.Fatalf("%d readers are left open", n)
		}
	})
}
