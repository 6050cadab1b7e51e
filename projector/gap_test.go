package projector_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRunnerReportsAGapAndGoesOn(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 20 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		if err := positions.Save("p", 3); err != nil {
			t.Fatal(err)
		}
		m.Trim(8)
		m.Lose(12, 14)
		reg := prometheus.NewRegistry()
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Registerer: reg})
		projectortest.Start(t, r)
		synctest.Wait()
		want := append(projectortest.Numbers(8, 11), projectortest.Numbers(15, 20)...)
		if got := p.Applied(); !slices.Equal(got, want) {
			t.Fatalf("applied %v, want %v", got, want)
		}
		s := r.Status()
		if s.Lost != 7 || len(s.Gaps) != 2 || s.Gaps[0].From != 4 || s.Gaps[0].To != 7 || s.Gaps[0].Count != 4 ||
			s.Gaps[0].Reason != journal.GapRetention || s.Gaps[1].Count != 3 {
			t.Fatalf("status %+v", s)
		}
		if g, l := projectortest.Metric(t, reg, "pulse_projector_gaps_total"), projectortest.Metric(t, reg, "pulse_projector_lost_records_total"); g != 2 || l != 7 {
			t.Fatalf("%v gaps with %v records counted", g, l)
		}
		r.Stop()
	})
}

func TestRunnerWithoutAPositionMissesNothingThatWasDroppedBefore(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 9 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		m.Trim(6)
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		synctest.Wait()
		r.Stop()
		if s := r.Status(); s.Lost != 0 || !slices.Equal(p.Applied(), projectortest.Numbers(6, 9)) {
			t.Fatalf("status %+v, applied %v", s, p.Applied())
		}
	})
}

func TestRunnerPositionBeyondTheJournalsEnd(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		positions := projector.NewPositions(db)
		if err := positions.Save("p", 10); err != nil {
			t.Fatal(err)
		}
		m.Cut(4)
		p := &projectortest.Recorder{ID: "p"}
		reg := prometheus.NewRegistry()
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Registerer: reg})
		projectortest.Start(t, r)
		if seq, err := positions.Load("p"); err != nil || seq != 4 {
			t.Fatalf("after Start the saved position is %d, %v: a crash now would skip new events", seq, err)
		}
		m.Append(projectortest.Event("b", 1), projectortest.Event("b", 2)) // records 5 and 6 again
		synctest.Wait()
		if got := p.Applied(); !slices.Equal(got, []uint64{5, 6}) {
			t.Fatalf("applied %v", got)
		}
		if s := r.Status(); len(s.Gaps) != 1 || s.Gaps[0].From != 5 || s.Gaps[0].To != 10 || s.Gaps[0].Reason != journal.GapRewound {
			t.Fatalf("status %+v", s)
		}
		if p.Origins()[0] != (projector.Origin{Position: 4, First: 1, Last: 4}) {
			t.Fatalf("it began at %+v", p.Origins())
		}
		// The same while the runner runs: the next call of the reader finds that the journal was
		// set back.
		m.Fail(errors.New("the server restarts"))
		synctest.Wait()
		m.Cut(5)
		m.Fail(nil)
		time.Sleep(3 * time.Second)
		m.Append(projectortest.Event("c", 1))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := p.Applied(); !slices.Equal(got, []uint64{5, 6, 6}) {
			t.Fatalf("applied %v", got)
		}
		if n := projectortest.Metric(t, reg, "pulse_projector_set_back_total"); n != 2 {
			t.Fatalf("set back %v times", n)
		}
		if len(p.Origins()) != 2 || p.Origins()[1].Position != 5 {
			t.Fatalf("it began at %+v", p.Origins())
		}
		r.Stop()
	})
}

func TestRunnerRejects(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		rejects := projector.NewRejects(db)
		positions := projector.NewPositions(db)
		for i := range 10 {
			m.Append(projectortest.Event("a", int64(i)))
		}
		m.AppendBad(&codec.DecodeError{Offset: 3, Reason: "not a number"})
		p := &projectortest.Recorder{ID: "p", OnApply: func(records []journal.Record) error {
			for i := range records {
				if s := records[i].Seq; s == 4 || s == 9 {
					return &projector.RejectError{Reason: "field type conflict"}
				}
			}
			return nil
		}}
		reg := prometheus.NewRegistry()
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Rejects: rejects, Registerer: reg})
		projectortest.Start(t, r)
		synctest.Wait()
		r.Stop()
		want := []uint64{1, 2, 3, 5, 6, 7, 8, 10, 11}
		if got := p.Applied(); !slices.Equal(got, want) {
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
		if n := projectortest.Metric(t, reg, "pulse_projector_rejected_records_total"); n != 3 {
			t.Fatalf("%v counted", n)
		}
	})
}

func TestRunnerRejectAsTheLastRecordMovesThePosition(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1), projectortest.Event("a", 2))
		p := &projectortest.Recorder{ID: "p", OnApply: func(records []journal.Record) error {
			if records[len(records)-1].Seq == 2 {
				return &projector.RejectError{Reason: "no"}
			}
			return nil
		}}
		positions := projector.NewPositions(db)
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		projectortest.Start(t, r)
		synctest.Wait()
		r.Stop()
		if seq, _ := positions.Load("p"); seq != 2 {
			t.Fatalf("position %d", seq)
		}
	})
}

func TestRunnerReaderFails(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var log logtest.Buffer
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Logger: log.Logger()})
		projectortest.Start(t, r)
		m.Append(projectortest.Event("a", 1))
		synctest.Wait()
		m.Fail(errors.New("the journal restarts"))
		time.Sleep(10 * time.Second)
		if s := r.Status(); s.State != projector.StateFailing || !strings.Contains(s.LastError, "the journal restarts") {
			t.Fatalf("status %+v", s)
		}
		m.Fail(nil)
		m.Append(projectortest.Event("a", 2))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if got := p.Applied(); !slices.Equal(got, projectortest.Numbers(1, 2)) {
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
