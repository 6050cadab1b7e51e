package projector_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRunnerAppliesEverythingOnceAndSavesTheLast(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		positions := projector.NewPositions(db)
		p := &recorder{name: "p"}
		for i := range 25 {
			m.Append(event("web1", int64(i)))
		}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, BatchRecords: 10})
		start(t, r)
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, numbers(1, 25)) {
			t.Fatalf("applied %v", got)
		}
		if got := p.sizes(); !slices.Equal(got, []int{10, 10, 5}) {
			t.Fatalf("batches of %v", got)
		}
		m.Append(event("web1", 26))
		m.AppendRelay(journal.RelayEvent{Relay: "web1", Kind: journal.RelayConnected})
		synctest.Wait()
		if err := r.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if seq, err := positions.Load("p"); err != nil || seq != 27 {
			t.Fatalf("the saved position is %d, %v", seq, err)
		}
		s := r.Status()
		if s.State != projector.StateDrained || s.Position != 27 || s.Applied != 27 || s.Lag != 0 || !s.AppliedTime.Equal(time.Unix(0, 26)) {
			t.Fatalf("status %+v", s)
		}
		if n := m.OpenReaders(); n != 0 {
			t.Fatalf("%d readers are left open", n)
		}
		// The next one goes on behind it.
		m.Append(event("web1", 28))
		p2 := &recorder{name: "p"}
		r = newRunner(t, projector.RunnerOptions{Projection: p2, Journal: m, Positions: positions})
		start(t, r)
		synctest.Wait()
		r.Stop()
		if got := p2.applied(); !slices.Equal(got, []uint64{28}) {
			t.Fatalf("after a restart %v was applied", got)
		}
		if got := p2.spans; len(got) != 1 || got[0] != (projector.Span{Position: 27, First: 1, Last: 28}) {
			t.Fatalf("it began at %+v", got)
		}
	})
}

func TestRunnerOffersTheSameBatchUntilTheSinkTakesIt(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var log lockedBuffer
		reg := prometheus.NewRegistry()
		var down atomic.Bool
		down.Store(true)
		var offered [][2]uint64
		var at []time.Duration
		began := time.Now()
		var mu sync.Mutex // guards offered and at
		p := &recorder{name: "p", apply: func(records []journal.Record) error {
			mu.Lock()
			defer mu.Unlock()
			offered = append(offered, [2]uint64{records[0].Seq, records[len(records)-1].Seq})
			at = append(at, time.Since(began))
			if down.Load() {
				return errors.New("sink is down")
			}
			return nil
		}}
		positions := projector.NewPositions(db)
		m.Append(event("a", 1), event("a", 2), event("a", 3))
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Logger: logTo(&log), Registerer: reg})
		start(t, r)
		time.Sleep(5*time.Minute + 10*time.Second)
		synctest.Wait()
		m.Append(event("a", 4))
		s := r.Status()
		if s.State != projector.StateFailing || s.LastError != "sink is down" || s.Failures == 0 || !s.FailingSince.Equal(began) {
			t.Fatalf("status while the sink is down: %+v", s)
		}
		if seq, _ := positions.Load("p"); seq != 0 {
			t.Fatalf("the position moved to %d although the sink took nothing", seq)
		}
		if n := log.count("cannot go on"); n < 3 || n > 6 {
			t.Errorf("%d log lines in five minutes, want about one a minute", n)
		}
		mu.Lock()
		attempts := len(at)
		for i, o := range offered {
			if o != [2]uint64{1, 3} {
				t.Fatalf("attempt %d was given %v", i, o)
			}
		}
		var last time.Duration
		for i := 1; i < len(at); i++ {
			pause := at[i] - at[i-1]
			if pause > 30*time.Second || pause < last*7/10 {
				t.Fatalf("pause %d is %v after %v: not a capped doubling", i, pause, last)
			}
			last = pause
		}
		mu.Unlock()
		if last < 20*time.Second {
			t.Fatalf("the last pause is %v only", last)
		}
		down.Store(false)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.State != projector.StateLive || s.LastError != "" || !s.FailingSince.IsZero() || s.Applied != 4 {
			t.Fatalf("status after it came back: %+v", s)
		}
		if n := log.count("the projection goes on\""); n != 1 {
			t.Errorf("%d lines of recovery, want 1", n)
		}
		if n := metric(t, reg, "pulse_projector_failures_total"); n < float64(attempts) || n > float64(attempts+1) {
			t.Errorf("%v failures counted, after the %d attempts that had failed before it came back", n, attempts)
		}
		r.Stop()
	})
}

func TestRunnerStopEndsABackoffAtOnce(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1))
		p := &recorder{name: "p", apply: func([]journal.Record) error { return errors.New("down") }}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		start(t, r)
		time.Sleep(2 * time.Minute)
		began := time.Now()
		r.Stop()
		if d := time.Since(began); d != 0 {
			t.Fatalf("Stop took %v", d)
		}
		r.Stop()
		if s := r.Status(); s.State != projector.StateStopped || s.Position != 0 {
			t.Fatalf("status %+v", s)
		}
		if err := r.Drain(t.Context()); err == nil {
			t.Fatal("draining a stopped runner that was behind succeeded")
		}
	})
}

func TestRunnerDrain(t *testing.T) {
	tests := []struct {
		name    string
		down    time.Duration // the sink fails for so long after Drain
		within  time.Duration
		applied uint64
		flushed int
		wantErr string
	}{
		{name: "idle", within: time.Second, applied: 5, flushed: 1},
		{name: "sink comes back in time", down: 3 * time.Second, within: 10 * time.Second, applied: 5, flushed: 1},
		{name: "sink stays away", down: time.Hour, within: 10 * time.Second, applied: 0, wantErr: "stopped at record 0 of 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			db := openDB(t)
			synctest.Test(t, func(t *testing.T) {
				m := projectortest.NewMemory()
				began := time.Now()
				flushes := 0
				p := &recorder{name: "p",
					apply: func([]journal.Record) error {
						if time.Since(began) < tt.down {
							return errors.New("down")
						}
						return nil
					},
					flush: func() (uint64, error) {
						flushes++
						if flushes == 1 && tt.down > 0 {
							return 0, errors.New("down once more")
						}
						return 4, nil
					},
					position: func(last uint64) uint64 { return last - 3 },
				}
				positions := projector.NewPositions(db)
				for i := range 5 {
					m.Append(event("a", int64(i)))
				}
				r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Linger: 20 * time.Second})
				start(t, r)
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				err := r.Drain(ctx)
				if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
					t.Fatalf("Drain: %v, want %q", err, tt.wantErr)
				}
				if got := uint64(len(p.applied())); got != tt.applied {
					t.Errorf("%d records applied, want %d", got, tt.applied)
				}
				if tt.wantErr != "" && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the error does not wrap the deadline: %v", err)
				}
				if seq, _ := positions.Load("p"); tt.wantErr == "" && seq != 4 {
					t.Errorf("the flush's position was not saved: %d", seq)
				}
				if tt.flushed > 0 && flushes < tt.flushed {
					t.Error("not flushed")
				}
				if again := r.Drain(t.Context()); (again == nil) != (err == nil) {
					t.Errorf("the second Drain says %v", again)
				}
			})
		})
	}
}

func TestRunnerDrainDoesNotWaitForWhatComesLater(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1))
		p := &recorder{name: "p", apply: func([]journal.Record) error {
			m.Append(event("a", 2)) // one more for each that is applied
			return nil
		}}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), BatchRecords: 1})
		start(t, r)
		// No Wait: it would never end.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRunnerDrainWithoutTheLastRecord(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(event("a", 1), event("a", 2), event("a", 3))
		m.Lose(3, 3) // the state still says 3
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		start(t, r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if got := p.applied(); !slices.Equal(got, numbers(1, 2)) {
			t.Fatalf("applied %v", got)
		}
	})
}

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
		m.Append(event("b", 1), event("b", 2)) // 5 and 6 again
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, []uint64{5, 6}) {
			t.Fatalf("applied %v", got)
		}
		if s := r.Status(); len(s.Gaps) != 1 || s.Gaps[0].From != 5 || s.Gaps[0].To != 10 || s.Gaps[0].Reason != journal.GapRewound {
			t.Fatalf("status %+v", s)
		}
		if p.spans[0] != (projector.Span{Position: 4, First: 1, Last: 4}) {
			t.Fatalf("it began at %+v", p.spans)
		}
		// The same while it runs: the reader's next call finds it out.
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
		m.AppendBad(&journal.DecodeError{Offset: 3, Reason: "not a number"})
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

func TestRunnerLingers(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Linger: 200 * time.Millisecond})
		start(t, r)
		for i := range 1000 { // an event a millisecond for a second
			m.Append(event("a", int64(i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := p.applied(); !slices.Equal(got, numbers(1, 1000)) {
			t.Fatalf("%d records applied", len(got))
		}
		if n := len(p.sizes()); n > 8 {
			t.Fatalf("%d batches in a second at a linger of 200 ms", n)
		}
		r.Stop()
	})
}

func TestRunnerTicksOnceASecondBusyOrIdle(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var ticks atomic.Int32
		var held atomic.Uint64
		p := &recorder{name: "p",
			position: func(uint64) uint64 { return held.Load() },
			tick: func(time.Time) (uint64, error) {
				ticks.Add(1)
				return held.Load(), nil
			}}
		positions := projector.NewPositions(db)
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		start(t, r)
		time.Sleep(10*time.Second + time.Millisecond)
		if n := ticks.Swap(0); n < 9 || n > 10 {
			t.Fatalf("%d ticks in 10 idle seconds", n)
		}
		for range 1000 {
			m.Append(event("a", 1))
			time.Sleep(10 * time.Millisecond)
		}
		if n := ticks.Load(); n < 9 || n > 11 {
			t.Fatalf("%d ticks in 10 busy seconds", n)
		}
		if s := r.Status(); s.Position != 0 || s.Applied != 1000 {
			t.Fatalf("the position did not stay with the projection: %+v", s)
		}
		held.Store(990)
		time.Sleep(2 * time.Second)
		if seq, _ := positions.Load("p"); seq != 990 {
			t.Fatalf("a tick's position was not saved: %d", seq)
		}
		r.Stop()
	})
}

func TestRunnerSavesPositionsOnceASecond(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		reg := prometheus.NewRegistry()
		p := &recorder{name: "p"}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Registerer: reg})
		start(t, r)
		for range 1000 {
			m.Append(event("a", 1))
			time.Sleep(10 * time.Millisecond)
		}
		if n := metric(t, reg, "pulse_projector_position_saves_total"); n < 9 || n > 21 {
			t.Fatalf("%v positions saved in 10 s", n)
		}
		r.Stop()
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

func TestRunnerStartPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		for i := range 10 {
			m.Append(event("a", int64(i+1)))
		}
		for _, tt := range []struct {
			name string
			from projector.StartPolicy
			want []uint64
		}{
			{"time", projector.FromTime(time.Unix(0, 7)), numbers(7, 11)},
			{"time in the future", projector.FromTime(time.Unix(0, 100)), numbers(11, 11)},
			{"end", projector.FromEnd(), numbers(11, 11)},
		} {
			m.Cut(10)
			p := &recorder{name: tt.name}
			r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Start: tt.from})
			start(t, r)
			time.Sleep(3 * time.Second)
			m.Append(event("a", 200))
			if err := r.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := p.applied(); !slices.Equal(got, tt.want) {
				t.Errorf("%s: applied %v, want %v", tt.name, got, tt.want)
			}
			if s := r.Status(); s.Lag != 0 || s.Lost != 0 {
				t.Errorf("%s: status %+v", tt.name, s)
			}
		}
	})
}

func TestRunnerLag(t *testing.T) {
	db := openDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		var down atomic.Bool
		down.Store(true)
		p := &recorder{name: "p", apply: func(records []journal.Record) error {
			if down.Load() && records[0].Seq > 1 {
				return errors.New("down")
			}
			return nil
		}}
		r := newRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		start(t, r)
		m.Append(event("a", time.Now().UnixNano()))
		synctest.Wait()
		for range 60 {
			m.Append(event("a", time.Now().UnixNano()))
			time.Sleep(time.Second)
		}
		s := r.Status()
		if s.Lag < 25 || s.Lag > 60 || s.LagSeconds < 25 || s.LagSeconds > 61 {
			t.Fatalf("behind by %d records and %v s after a minute", s.Lag, s.LagSeconds)
		}
		down.Store(false)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.Lag != 0 || s.LagSeconds != 0 {
			t.Fatalf("status %+v", s)
		}
		r.Stop()
	})
}

func TestRunnerOptionsAndMisuse(t *testing.T) {
	m := projectortest.NewMemory()
	for _, o := range []projector.RunnerOptions{
		{}, {Journal: m}, {Projection: &recorder{name: "p"}}, {Projection: &recorder{name: "p"}, Journal: m},
	} {
		if _, err := projector.NewRunner(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	r := newRunner(t, projector.RunnerOptions{Projection: &recorder{name: "p"}, Journal: m, Start: projector.FromEnd()})
	if err := r.Drain(t.Context()); err != nil {
		t.Errorf("draining a runner that was not started: %v", err)
	}
	if err := r.Start(t.Context()); err == nil {
		t.Error("started after it was stopped")
	}
	m.Fail(errors.New("the journal is broken"))
	r = newRunner(t, projector.RunnerOptions{Projection: &recorder{name: "p"}, Journal: m, Start: projector.FromEnd()})
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "the journal is broken") {
		t.Errorf("started on a broken journal: %v", err)
	}
	r.Stop()
}
