package projector_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func TestRunnerStopEndsABackoffAtOnce(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1))
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error { return errors.New("down") }}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
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
		down    time.Duration // how long the sink fails after Drain
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
			db := projectortest.OpenDB(t)
			synctest.Test(t, func(t *testing.T) {
				m := projectortest.NewMemory()
				began := time.Now()
				flushes := 0
				p := &projectortest.Recorder{ID: "p",
					OnApply: func([]journal.Record) error {
						if time.Since(began) < tt.down {
							return errors.New("down")
						}
						return nil
					},
					OnFlush: func() (uint64, error) {
						flushes++
						if flushes == 1 && tt.down > 0 {
							return 0, errors.New("down once more")
						}
						return 4, nil
					},
					Position: func(last uint64) uint64 { return last - 3 },
				}
				positions := projector.NewPositions(db)
				for i := range 5 {
					m.Append(projectortest.Event("a", int64(i)))
				}
				r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions, Linger: 20 * time.Second})
				projectortest.Start(t, r)
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				err := r.Drain(ctx)
				if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
					t.Fatalf("Drain: %v, want %q", err, tt.wantErr)
				}
				if got := uint64(len(p.Applied())); got != tt.applied {
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
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1))
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error {
			m.Append(projectortest.Event("a", 2)) // one more record for each applied batch
			return nil
		}}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), BatchRecords: 1})
		projectortest.Start(t, r)
		// No synctest.Wait here, because it would never return.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRunnerDrainWithoutTheLastRecord(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		m.Append(projectortest.Event("a", 1), projectortest.Event("a", 2), projectortest.Event("a", 3))
		m.Lose(3, 3) // the last sequence of the state is still 3
		p := &projectortest.Recorder{ID: "p"}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db)})
		projectortest.Start(t, r)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		if got := p.Applied(); !slices.Equal(got, projectortest.Numbers(1, 2)) {
			t.Fatalf("applied %v", got)
		}
	})
}
