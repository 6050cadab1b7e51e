package past_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/past"
	"github.com/nanopack/pulse/projector/projectortest"
)

// pair is a runner with its backlog.
type pair struct {
	runner   *projector.Runner
	backlog  *past.Queue
	live     *projectortest.Recorder // the projection of the runner
	behind   *projectortest.Recorder // the projection that gets the backlog's records
	registry *prometheus.Registry
	log      logtest.Buffer
}

// newPair makes a runner that applies 5 records at a time and jumps when more than 20 records wait,
// and a backlog that takes 10 at a time. prepare may change the pair before the two are made.
func newPair(t *testing.T, db *bbolt.DB, m projector.Source, prepare func(*pair)) *pair {
	t.Helper()
	p := &pair{live: &projectortest.Recorder{ID: "p"}, behind: &projectortest.Recorder{ID: "p"}, registry: prometheus.NewRegistry()}
	if prepare != nil {
		prepare(p)
	}
	p.backlog = newQueue(t, past.Options{View: view{p.behind}, Journal: m, DB: db, Rejects: projector.NewRejects(db),
		Registerer: p.registry, Logger: p.log.Logger()})
	p.runner = projectortest.NewRunner(t, projector.RunnerOptions{Projection: p.live, Journal: m, Positions: projector.NewPositions(db), BatchRecords: 5,
		Backlog: p.backlog.Backlog, JumpBehind: 20, Registerer: p.registry, Logger: p.log.Logger()})
	return p
}

func newQueue(t *testing.T, o past.Options) *past.Queue {
	t.Helper()
	q, err := past.New(o)
	if err != nil {
		t.Fatal(err)
	}
	q.SetChunk(10)
	return q
}

// view is a View that applies records with a projection.
type view struct{ p projector.Projection }

func (v view) Name() string           { return v.p.Name() }
func (v view) Projection() string     { return v.p.Name() }
func (v view) Begin(past.Chunk) error { return nil }
func (v view) End() error             { return nil }

func (v view) Apply(ctx context.Context, records []journal.Record) (past.Counts, error) {
	_, err := v.p.Apply(ctx, records)
	return past.Counts{}, err
}

func (v view) Find(context.Context, past.Range) (past.Found, error) {
	return past.Found{}, errors.New("there is nothing to find")
}

func (p *pair) start(t *testing.T) {
	t.Helper()
	projectortest.Start(t, p.runner)
	if err := p.backlog.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) stop() {
	p.runner.Stop()
	_ = p.backlog.Stop(context.Background())
}

// status returns the status of the backlog.
func (p *pair) status() projector.BacklogStatus { return p.backlog.Backlog.Backlog() }

// position returns the saved position of the projection p.
func position(t *testing.T, db *bbolt.DB) uint64 {
	t.Helper()
	seq, err := projector.NewPositions(db).Load("p")
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// backwards returns the numbers from first to last in chunks of 10, the last chunk first.
func backwards(first, last uint64) []uint64 {
	var s []uint64
	for last >= first {
		from := max(first, last-9)
		s = append(s, projectortest.Numbers(from, last)...)
		last = from - 1
	}
	return s
}

func TestBacklogIsFilledInNewestFirstBehindTheLive(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 100)
		hold := make(chan struct{})
		p := newPair(t, db, m, func(p *pair) {
			p.behind.OnApply = func([]journal.Record) error { <-hold; return nil }
		})
		p.start(t)
		synctest.Wait()
		projectortest.Fill(m, 3)
		time.Sleep(2 * time.Second)
		if got := p.live.Applied(); !slices.Equal(got, append(projectortest.Numbers(1, 5), projectortest.Numbers(101, 103)...)) {
			t.Fatalf("the runner applied %v", got)
		}
		s, b := p.runner.Status(), p.status()
		if s.Backlog != 95 || s.Lag != 0 || s.LagSeconds != 0 || s.State != projector.StateLive || s.Position != 103 || p.status().Records == 0 {
			t.Errorf("status %+v", s)
		}
		if b.Records != 95 || b.From != 6 || b.To != 100 || b.Ranges != 1 || b.Failing || b.Name != "p" {
			t.Errorf("status of the backlog %+v", b)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_backlog_records"); n != 95 {
			t.Errorf("the gauge says %v", n)
		}
		close(hold)
		synctest.Wait()
		if got := p.behind.Applied(); !slices.Equal(got, backwards(6, 100)) {
			t.Errorf("filled in %v", got)
		}
		time.Sleep(2 * time.Second)
		if s := p.runner.Status(); s.Backlog != 0 || s.Applied != 103 || p.status().Records > 0 {
			t.Errorf("status %+v", s)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_backlog_records"); n != 0 {
			t.Errorf("the gauge says %v", n)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_records_total"); n != 103 {
			t.Errorf("%v records counted", n)
		}
		p.stop()
		if n := m.OpenReaders(); n != 0 {
			t.Errorf("%d readers are left open", n)
		}
	})
}

// The runner applies fewer records than the threshold in order. If the projection holds its
// position back, the runner applies all records in order.
func TestBacklogIsForWhatIsFarBehind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		n       int
		prepare func(*pair)
	}{
		{name: "near", n: 25},
		{name: "held back", n: 100, prepare: func(p *pair) { p.live.Position = func(last uint64) uint64 { return last - 1 } }},
	} {
		db := projectortest.OpenDB(t)
		synctest.Test(t, func(t *testing.T) {
			m := projectortest.NewMemory()
			projectortest.Fill(m, tt.n)
			p := newPair(t, db, m, tt.prepare)
			p.start(t)
			synctest.Wait()
			p.stop()
			if got := p.live.Applied(); !slices.Equal(got, projectortest.Numbers(1, uint64(tt.n))) || len(p.behind.Applied()) != 0 {
				t.Errorf("%s: the runner applied %v, the backlog %v", tt.name, got, p.behind.Applied())
			}
		})
	}
}

// Each outage leaves a range of records. The newest range is filled in first, even between two
// chunks of an older range.
func TestBacklogNewerRangesGoFirst(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 50)
		step := make(chan struct{})
		p := newPair(t, db, m, func(p *pair) {
			p.behind.OnApply = func(records []journal.Record) error {
				if (records[0].Seq-1)%10 == 0 || records[0].Seq == 6 {
					<-step
				}
				return nil
			}
		})
		var down atomic.Bool
		p.live.OnApply = func([]journal.Record) error {
			if down.Load() {
				return errors.New("down")
			}
			return nil
		}
		p.start(t)
		synctest.Wait() // the backlog is in the chunk of 41 to 50
		down.Store(true)
		projectortest.Fill(m, 50)
		time.Sleep(time.Minute)
		down.Store(false)
		time.Sleep(time.Minute)
		if s := p.status(); s.Ranges != 2 || s.From != 6 || s.To != 100 || s.Records != 45+45 {
			t.Errorf("status %+v", s)
		}
		close(step)
		synctest.Wait()
		p.stop()
		want := append(projectortest.Numbers(41, 50), backwards(56, 100)...)
		want = append(want, backwards(6, 40)...)
		if got := p.behind.Applied(); !slices.Equal(got, want) {
			t.Errorf("filled in %v", got)
		}
		if got := p.live.Applied(); !slices.Equal(got, append(projectortest.Numbers(1, 5), projectortest.Numbers(51, 55)...)) {
			t.Errorf("the runner applied %v", got)
		}
	})
}

// A backlog takes 64 ranges; then the runner goes on with the oldest record.
func TestBacklogIsBounded(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		p := newPair(t, db, m, func(p *pair) {
			p.behind.OnApply = func([]journal.Record) error { return errors.New("down") }
			p.live.OnApply = func([]journal.Record) error { time.Sleep(300 * time.Millisecond); return nil }
		})
		p.start(t)
		for range 70 {
			projectortest.Fill(m, 50)
			time.Sleep(4 * time.Second)
		}
		if s := p.status(); s.Ranges != 64 || !s.Failing || s.LastError != "down" || s.FailingSince.IsZero() || s.Failures == 0 {
			t.Errorf("status %+v", s)
		}
		got := p.live.Applied()
		if len(got)+int(p.status().Records) != 70*50 || !slices.Equal(got[len(got)-300:], projectortest.Numbers(3201, 3500)) {
			t.Errorf("the runner applied %v", got)
		}
		if n := projectortest.Metric(t, p.registry, "pulse_projector_jumps_total"); n != 64 {
			t.Errorf("%v jumps", n)
		}
		p.stop()
	})
}

func TestBacklogOptionsAndMisuse(t *testing.T) {
	db := projectortest.OpenDB(t)
	m := projectortest.NewMemory()
	q := newQueue(t, past.Options{View: view{&projectortest.Recorder{ID: "p"}}, Journal: m, DB: db})
	for name, o := range map[string]projector.RunnerOptions{
		"other name":  {Projection: &projectortest.Recorder{ID: "q"}, Positions: projector.NewPositions(db)},
		"no position": {Projection: &projectortest.Recorder{ID: "p"}, Start: projector.FromEnd()},
	} {
		o.Journal, o.Backlog = m, q.Backlog
		if _, err := projector.NewRunner(o); err == nil {
			t.Errorf("%s: a runner was made", name)
		}
	}
	err := db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucket([]byte("backlog"))
		if err != nil {
			return err
		}
		bucket, err := top.CreateBucket([]byte("p"))
		if err != nil {
			return err
		}
		return bucket.Put([]byte("short"), []byte("short"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("a damaged bucket: %v", err)
	}
	if err := q.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	// A journal that was begun again has no backlog.
	if err := projector.NewPositions(db).Clear(); err != nil {
		t.Fatal(err)
	}
	q2 := newQueue(t, past.Options{View: view{&projectortest.Recorder{ID: "p"}}, Journal: m, DB: db})
	if err := q2.Start(t.Context()); err != nil {
		t.Errorf("cleared: %v", err)
	}
	for _, q := range []*past.Queue{q, q2, q2} {
		if err := q.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
