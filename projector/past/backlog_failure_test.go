package past_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/projectortest"
)

// A crash may leave the database as it is before or after each batch. A runner and a backlog that
// start from such a database apply every record that was not in the sink at the time of the crash.
func TestBacklogCrash(t *testing.T) {
	db := projectortest.OpenDB(t)
	var mu sync.Mutex // guards the variables below
	var crashes []string
	sunk := make(map[string]map[uint64]bool) // by file: the records that the sink had
	sink := make(map[uint64]bool)
	dir := t.TempDir()
	crash := func() {
		file := filepath.Join(dir, "crash"+time.Now().Format("150405.000000000")+"-"+string(rune('a'+len(crashes)%26))+".db")
		if err := db.View(func(tx *bbolt.Tx) error { return tx.CopyFile(file, 0o600) }); err != nil {
			t.Error(err)
		}
		crashes = append(crashes, file)
		sunk[file] = make(map[uint64]bool)
		for seq := range sink {
			sunk[file][seq] = true
		}
	}
	apply := func(records []journal.Record) error {
		mu.Lock()
		defer mu.Unlock()
		crash()
		for i := range records {
			sink[records[i].Seq] = true
		}
		crash()
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 60)
		p := newPair(t, db, m, func(p *pair) { p.live.OnApply, p.behind.OnApply = apply, apply })
		p.start(t)
		time.Sleep(1500 * time.Millisecond)
		projectortest.Fill(m, 60)
		time.Sleep(2 * time.Second)
		p.stop()
		if len(crashes) < 20 || len(sink) != 120 {
			t.Fatalf("%d crashes, %d records applied", len(crashes), len(sink))
		}
		for _, file := range crashes {
			db, err := bbolt.Open(file, 0o600, &bbolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			p := newPair(t, db, m, nil)
			p.start(t)
			time.Sleep(time.Second)
			p.stop()
			for _, r := range []*projectortest.Recorder{p.live, p.behind} {
				for _, seq := range r.Applied() {
					sunk[file][seq] = true
				}
			}
			if n := len(sunk[file]); n != 120 || p.runner.Status().Lost != 0 {
				t.Errorf("after a crash %d of 120 records are in the sink", n)
			}
			if err := errors.Join(db.Close(), os.Remove(file)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestBacklogRetentionOvertakesIt(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 100)
		const once, never, always = 0, 1, 2
		var takes atomic.Int32
		p := newPair(t, db, m, func(p *pair) {
			p.behind.OnApply = func([]journal.Record) error {
				if takes.Load() == never {
					return errors.New("down")
				}
				takes.CompareAndSwap(once, never)
				return nil
			}
		})
		p.start(t)
		time.Sleep(2 * time.Second) // 91 to 100 are applied, 81 to 90 are being applied
		m.Trim(62)
		m.Lose(71, 73)
		takes.Store(always)
		time.Sleep(time.Minute)
		p.stop()
		var want []uint64
		want = append(want, projectortest.Numbers(91, 100)...)
		want = append(want, projectortest.Numbers(81, 90)...)
		want = append(want, projectortest.Numbers(74, 80)...)
		want = append(want, projectortest.Numbers(62, 70)...)
		if got := p.behind.Applied(); !slices.Equal(got, want) {
			t.Errorf("filled in %v, want %v", got, want)
		}
		s, b := p.runner.Status(), p.status()
		if s.Lost != 3+56 || b.Lost != s.Lost || len(s.Gaps) != 2 || s.Gaps[1].From != 6 || s.Gaps[1].To != 61 ||
			s.Gaps[1].Reason != journal.GapRetention || s.Gaps[0].From != 71 || s.Gaps[0].Count != 3 || b.Records != 0 {
			t.Errorf("status %+v, of the backlog %+v", s, b)
		}
		if g, l := projectortest.Metric(t, p.registry, "pulse_projector_gaps_total"), projectortest.Metric(t, p.registry, "pulse_projector_lost_records_total"); g != 2 || l != 59 {
			t.Errorf("%v gaps with %v records counted", g, l)
		}
	})
}

func TestBacklogDrain(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 100)
		var down atomic.Bool
		down.Store(true)
		failing := func(p *pair) {
			p.behind.OnApply = func(records []journal.Record) error {
				if down.Load() && records[0].Seq <= 70 {
					return errors.New("down")
				}
				return nil
			}
		}
		p := newPair(t, db, m, failing)
		p.start(t)
		time.Sleep(time.Minute)
		if err := p.runner.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err := p.backlog.Drain(ctx)
		if err == nil || !strings.Contains(err.Error(), "65 records") || !strings.Contains(err.Error(), "next start") || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "down") {
			t.Errorf("drained with the sink down: %v", err)
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("it took %v", d)
		}
		// The next start continues the backlog. The sink comes back in the last moment of a drain,
		// after a long back-off.
		p = newPair(t, db, m, failing)
		p.start(t)
		time.Sleep(10 * time.Minute)
		time.AfterFunc(5*time.Second, func() { down.Store(false) })
		ctx, cancel = context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if err := p.backlog.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := p.runner.Drain(ctx); err != nil {
			t.Error(err)
		}
		if got := p.behind.Applied(); !slices.Equal(got, backwards(6, 70)) {
			t.Errorf("filled in %v", got)
		}
		// A backlog that is ending takes no more records, so that the runner applies them before it
		// stops.
		m.Append(projectortest.Event("a", 1))
		p = newPair(t, db, m, nil)
		p.start(t)
		synctest.Wait()
		if err := p.backlog.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		projectortest.Fill(m, 100)
		time.Sleep(2 * time.Second)
		if got := p.live.Applied(); !slices.Equal(got, projectortest.Numbers(101, 201)) {
			t.Errorf("applied %v", got)
		}
		p.runner.Stop()
		if err := p.backlog.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		// The Drain of a backlog that was not started does not wait.
		p = newPair(t, db, m, nil)
		if err := p.backlog.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		p.stop()
	})
}

// The journal ends before the ranges of the backlog do: at the start, whether the backlog or the
// runner starts first, and while both run.
func TestBacklogBeyondTheJournalsEnd(t *testing.T) {
	for _, order := range []string{"backlog first", "runner first", "while it runs"} {
		db := projectortest.OpenDB(t)
		synctest.Test(t, func(t *testing.T) {
			m := projectortest.NewMemory()
			projectortest.Fill(m, 100)
			var down atomic.Bool
			down.Store(true)
			sinkDown := func(p *pair) {
				p.behind.OnApply = func([]journal.Record) error {
					if down.Load() {
						return errors.New("down")
					}
					return nil
				}
			}
			p := newPair(t, db, m, sinkDown)
			p.start(t)
			time.Sleep(2 * time.Second)
			if order != "while it runs" {
				p.stop()
				m.Cut(40)
				p = newPair(t, db, m, sinkDown)
			}
			switch order {
			case "backlog first":
				if err := p.backlog.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				projectortest.Start(t, p.runner)
			case "runner first":
				p.start(t)
			default:
				m.Fail(errors.New("the server restarts"))
				time.Sleep(time.Second)
				m.Cut(40)
				m.Fail(nil)
			}
			time.Sleep(3 * time.Second)
			if s := p.status(); s.From != 6 || s.To != 40 || s.Lost != 0 || s.Records != 35 {
				t.Errorf("%s: status %+v", order, s)
			}
			if seq := position(t, db); seq != 40 {
				t.Errorf("%s: position %d", order, seq)
			}
			projectortest.Fill(m, 10) // these records get numbers that were used before
			time.Sleep(3 * time.Second)
			down.Store(false)
			time.Sleep(time.Minute)
			p.stop()
			applied := append(p.live.Applied(), p.behind.Applied()...)
			for _, seq := range projectortest.Numbers(6, 50) {
				if !slices.Contains(applied, seq) {
					t.Errorf("%s: %d was not applied", order, seq)
				}
			}
			if s := p.runner.Status(); s.Backlog != 0 || s.Lost != 60 || s.Applied != 50 {
				t.Errorf("%s: status %+v", order, s)
			}
		})
	}
}

// Every failure around a chunk is tried again and shown in the status.
func TestBacklogGoesOnAfterFailures(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 40)
		m.AppendBad(codec.ErrDecode)
		projectortest.Fill(m, 60)
		hold := make(chan struct{})
		p := newPair(t, db, m, func(p *pair) { p.behind.OnApply = func([]journal.Record) error { <-hold; return nil } })
		p.start(t)
		synctest.Wait()
		m.Fail(errors.New("the journal restarts"))
		close(hold)
		time.Sleep(5 * time.Minute)
		if s := p.status(); !s.Failing || !strings.Contains(s.LastError, "the journal restarts") {
			t.Errorf("status %+v", s)
		}
		m.Fail(nil)
		time.Sleep(time.Minute)
		if s := p.status(); s.Failing || s.LastError != "" || !s.FailingSince.IsZero() || s.Records != 0 || s.Rejected != 1 {
			t.Errorf("status %+v", s)
		}
		if got := p.behind.Applied(); !slices.Equal(got, backwards(6, 101)) {
			t.Errorf("filled in %v", got)
		}
		if s := p.runner.Status(); s.Rejected != 1 || s.Lost != 0 {
			t.Errorf("status %+v", s)
		}
		p.stop()
	})
}

// When pulse.db cannot be written, the runner goes on with the oldest record: it leaves no records
// to a backlog that cannot remember them.
func TestBacklogCannotBeSaved(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		p := newPair(t, db, m, nil)
		p.start(t)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		projectortest.Fill(m, 100)
		time.Sleep(2 * time.Second)
		if got := p.live.Applied(); !slices.Equal(got, projectortest.Numbers(1, 100)) {
			t.Errorf("the runner applied %v", got)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_state_write_failures_total"); n == 0 {
			t.Error("no failure counted")
		}
		p.stop()
	})
}
