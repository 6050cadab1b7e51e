package projector_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// TestRunnerOnARealJournal runs a projection over a growing journal, with a sink that sometimes
// fails, and restarts it. Every record must be applied, in order, and only records whose position
// was not saved may be applied twice.
func TestRunnerOnARealJournal(t *testing.T) {
	j := journaltest.Open(t)
	positions := projector.NewPositions(projectortest.OpenDB(t))
	var all []uint64
	for round := range 3 {
		n := 0
		p := &projectortest.Recorder{ID: "p", OnApply: func([]journal.Record) error {
			if n++; n%3 == 0 {
				return errors.New("down")
			}
			return nil
		}}
		r := projectortest.NewRunner(t, projector.RunnerOptions{Projection: p, Journal: projector.FromJournal(j), Positions: positions, BatchRecords: 50})
		projectortest.Start(t, r)
		for i := range 100 {
			journaltest.Append(t, j, projectortest.Event("web1", int64(round*100+i)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := r.Drain(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Applied()...)
		if s := r.Status(); s.State != projector.StateDrained || s.Lag != 0 || s.Lost != 0 || s.Position != uint64(100*(round+1)) {
			t.Fatalf("status %+v", s)
		}
	}
	if !slices.Equal(all, projectortest.Numbers(1, 300)) {
		t.Fatalf("applied %v", all)
	}
	if r, err := projector.FromJournal(j).ReadFromTime(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	} else if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := j.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := projector.FromJournal(j).ReadFrom(1); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("reading a closed journal: %v", err)
	}
	if _, err := projector.FromJournal(j).ReadFromTime(time.Now()); !errors.Is(err, journal.ErrClosed) {
		t.Fatalf("reading a closed journal: %v", err)
	}
}
