package projector_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// The status stays right while Apply does not return and during a back-off.
func TestStatusWhileTheSinkDoesNotAnswer(t *testing.T) {
	for _, sink := range []string{"blocks", "fails"} {
		db := projectortest.OpenDB(t)
		synctest.Test(t, func(t *testing.T) {
			m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: time.Hour}
			p := &projectortest.Recorder{ID: "p", OnApply: func(records []journal.Record) error {
				if sink == "blocks" {
					time.Sleep(time.Hour)
				}
				return errors.New("down")
			}}
			reg := prometheus.NewRegistry()
			r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Registerer: reg})
			projectortest.Start(t, r)
			time.Sleep(time.Second / 2)
			if s := r.Status(); s.Lag != 0 || s.SecondsToLoss != nil {
				t.Errorf("status %+v", s)
			}
			for i := range 200 {
				projectortest.Fill(m.Memory, 1)
				time.Sleep(time.Second)
				if i < 3 {
					continue
				}
				s := r.Status()
				age := float64(i + 1)
				if math.Abs(float64(s.Lag)-age) > 2 || math.Abs(s.LagSeconds-age) > 2 || !projectortest.About(s.SecondsToLoss, 3600-age) {
					t.Fatalf("the sink %s: after %v s: status %+v", sink, age, s)
				}
				if lag := projectortest.Metric(t, reg, "pulse_projector_lag_records"); math.Abs(lag-age) > 2 {
					t.Fatalf("the sink %s: after %v s the gauge says %v", sink, age, lag)
				}
			}
			if n := projectortest.Metric(t, reg, "pulse_projector_seconds_to_loss"); n > 3402 || n < 3395 {
				t.Errorf("the gauge says %v", n)
			}
			go r.Stop()
			time.Sleep(2 * time.Hour)
		})
	}
}

// After a start with an unavailable sink, LagSeconds is the age of the first record that waits.
func TestStatusAfterAStartWithNothingApplied(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: 24 * time.Hour}
		for i := range 20 { // an hour apart; the first event is 20 hours old
			m.Append(projectortest.Event("a", time.Now().Add(time.Duration(i-20)*time.Hour).UnixNano()))
		}
		positions := projector.NewPositions(db)
		if err := positions.Save("p", 10); err != nil {
			t.Fatal(err)
		}
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error { return errors.New("down") }}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: positions})
		projectortest.Start(t, r)
		time.Sleep(10 * time.Second)
		if s := r.Status(); s.Lag != 10 || math.Abs(s.LagSeconds-36010) > 2 || !projectortest.About(s.SecondsToLoss, 14*3600-10) {
			t.Errorf("status %+v", s)
		}
		r.Stop()
		// A runner whose reader cannot read gets the time of the record with another reader, as
		// soon as that reader works.
		m.Fail(errors.New("broken"))
		r = projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: failsLater{m}, Positions: positions})
		m.Fail(nil)
		projectortest.Start(t, r)
		time.Sleep(10 * time.Second)
		if s := r.Status(); s.Lag != 10 || math.Abs(s.LagSeconds-36020) > 2 || s.LastError == "" {
			t.Errorf("status %+v", s)
		}
		r.Stop()
	})
}

// failsLater is a journal whose readers fail to read more than one record at a time.
type failsLater struct{ projectortest.Limited }

func (f failsLater) ReadFrom(seq uint64) (projector.Reader, error) {
	r, err := f.Limited.ReadFrom(seq)
	return &failingReader{Reader: r}, err
}

type failingReader struct{ projector.Reader }

func (r *failingReader) Read(ctx context.Context, most int) ([]journal.Record, error) {
	if most > 1 { // this is the runner's own read
		return nil, errors.New("cannot read")
	}
	return r.Reader.Read(ctx, most)
}

func TestSecondsToLoss(t *testing.T) {
	for _, tt := range []struct {
		name      string
		retention time.Duration
		maxBytes  int64
		idle      bool // the journal does not grow
		trim      uint64
		want      float64 // -1: SecondsToLoss is nil
	}{
		{name: "age", retention: 3 * time.Hour, want: 2*3600 - 120},
		// The journal gets 100 bytes a second and has 120 records at the end.
		{name: "size", maxBytes: 1_000_000, want: 10_000 - 220},
		{name: "the sooner of both, size", retention: 24 * time.Hour, maxBytes: 1_000_000, want: 10_000 - 220},
		{name: "the sooner of both, age", retention: 2 * time.Hour, maxBytes: 1_000_000, want: 3600 - 120},
		{name: "nothing grows, size", maxBytes: 1_000_000, idle: true, want: -1},
		{name: "nothing grows, both", retention: 3 * time.Hour, maxBytes: 1_000_000, idle: true, want: 2*3600 - 120},
		{name: "too late, age", retention: time.Hour, want: 0},
		{name: "too late, size", maxBytes: 1000, want: 0},
		{name: "the first is gone already", retention: 3 * time.Hour, trim: 101, want: 3*3600 - 120},
		{name: "no limit", want: -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := projectortest.OpenDB(t)
			synctest.Test(t, func(t *testing.T) {
				m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: tt.retention, MaxBytes: tt.maxBytes}
				for range 100 {
					m.Append(projectortest.Event("a", time.Now().Add(-time.Hour).UnixNano()))
				}
				p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error { return errors.New("down") }}
				reg := prometheus.NewRegistry()
				r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Registerer: reg})
				projectortest.Start(t, r)
				time.Sleep(time.Second / 2) // not when the runner checks the journal
				for i := range 120 {
					if !tt.idle {
						projectortest.Fill(m.Memory, 1)
					}
					time.Sleep(time.Second)
					if i == 0 {
						m.Trim(tt.trim)
					}
				}
				s := r.Status()
				gauge := projectortest.Metric(t, reg, "pulse_projector_seconds_to_loss")
				if tt.want < 0 {
					if s.SecondsToLoss != nil || !math.IsInf(gauge, 1) {
						t.Errorf("got %v, the gauge says %v", *s.SecondsToLoss, gauge)
					}
					if text, err := json.Marshal(s); err != nil || !strings.Contains(string(text), `"seconds_to_loss":null`) {
						t.Errorf("%s, %v", text, err)
					}
				} else if !projectortest.About(s.SecondsToLoss, tt.want) || !projectortest.About(&gauge, tt.want) {
					t.Errorf("got %v, the gauge says %v, want %v", *s.SecondsToLoss, gauge, tt.want)
				}
				r.Stop()
			})
		})
	}
}

// A projection that keeps up logs no warning, however short the retention is.
func TestNoWarningOfALossThatIsNotNear(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: time.Minute}
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error { time.Sleep(1300 * time.Millisecond); return nil }}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Logger: log.Logger()})
		projectortest.Start(t, r)
		for range 300 {
			projectortest.Fill(m.Memory, 1)
			time.Sleep(time.Second)
		}
		r.Stop()
		if n := log.Count("the journal will drop"); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})
}

// A journal that reaches less than two hours back has warnings when half of that is used up, not at
// the first event that waits.
func TestWarningOfALossInAShortJournal(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		m := projectortest.Limited{Memory: projectortest.NewMemory(), Retention: 40 * time.Minute}
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error { return errors.New("down") }}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: m, Positions: projector.NewPositions(db), Logger: log.Logger()})
		projectortest.Start(t, r)
		for minute := range 25 {
			projectortest.Fill(m.Memory, 1)
			time.Sleep(time.Minute)
			n := log.Count("the journal will drop")
			if minute < 19 && n != 0 || minute > 20 && n == 0 {
				t.Fatalf("%d warnings after %d minutes", n, minute+1)
			}
		}
		r.Stop()
	})
}
