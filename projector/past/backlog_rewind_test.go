package past_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector/projectortest"
)

// A wiped sink gets everything again, whoever finds the wipe. The chunk under way does not undo
// this.
func TestBacklogRewind(t *testing.T) {
	for _, finder := range []string{"the backlog", "the runner", "another"} {
		db := projectortest.OpenDB(t)
		synctest.Test(t, func(t *testing.T) {
			m := projectortest.NewMemory()
			projectortest.Fill(m, 100)
			var mu sync.Mutex // guards the variables below
			sink := make(map[uint64]int)
			wiped := false
			var p *pair
			wipe := func() error {
				mu.Lock()
				defer mu.Unlock()
				if wiped {
					return nil
				}
				wiped = true
				clear(sink)
				err := p.runner.Rewind()
				if seq := position(t, db); seq != 0 {
					t.Errorf("found by %s: the position is %d", finder, seq)
				}
				if s := p.status(); s.Records != 0 {
					t.Errorf("found by %s: %d records are left", finder, s.Records)
				}
				return err
			}
			take := func(records []journal.Record) {
				mu.Lock()
				defer mu.Unlock()
				for i := range records {
					sink[records[i].Seq]++
				}
			}
			p = newPair(t, db, m, func(p *pair) {
				p.live.OnApply = func(records []journal.Record) error {
					if finder == "the runner" && records[0].Seq > 100 {
						if err := wipe(); err != nil {
							return err
						}
					}
					take(records)
					return nil
				}
				p.behind.OnApply = func(records []journal.Record) error {
					take(records)
					if records[0].Seq == 51 {
						time.Sleep(3 * time.Second) // meanwhile the runner becomes live
						if finder == "the backlog" {
							if err := wipe(); err != nil {
								return err
							}
						}
						time.Sleep(3 * time.Second) // meanwhile the runner jumps again
					}
					return nil
				}
			})
			p.start(t)
			time.Sleep(time.Second)
			projectortest.Fill(m, 1)
			if finder == "another" {
				time.Sleep(time.Second)
				if err := wipe(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute)
			p.stop()
			for seq := uint64(1); seq <= 101; seq++ {
				if sink[seq] == 0 {
					t.Errorf("found by %s: record %d was not applied after the wipe", finder, seq)
				}
			}
			if s := p.runner.Status(); !wiped || s.Backlog != 0 || s.Applied != 101 || s.Position != 101 || s.Lost != 0 {
				t.Errorf("found by %s: status %+v", finder, s)
			}
		})
	}
}

// asked is a journal that calls state whenever it is asked for its state.
type asked struct {
	*projectortest.Memory
	state func()
}

func (a asked) State(ctx context.Context) (journal.State, error) {
	a.state()
	return a.Memory.State(ctx)
}

// When a sink is found wiped while the runner is about to jump, the position stays 0.
func TestBacklogRewindDuringAJump(t *testing.T) {
	db := projectortest.OpenDB(t)
	synctest.Test(t, func(t *testing.T) {
		m := projectortest.NewMemory()
		projectortest.Fill(m, 100)
		var p *pair
		batches, rewound := 0, false // only the runner's goroutine uses these in the first second
		hold := make(chan struct{})
		p = newPair(t, db, asked{m, func() {
			if batches == 1 && !rewound {
				rewound = true
				if err := p.runner.Rewind(); err != nil {
					t.Error(err)
				}
			}
		}}, func(p *pair) {
			p.live.OnApply = func([]journal.Record) error {
				if rewound {
					<-hold
				}
				batches++
				return nil
			}
		})
		projectortest.Start(t, p.runner)
		synctest.Wait()
		if seq := position(t, db); seq != 0 || !rewound {
			t.Errorf("the position is %d (rewound: %v)", seq, rewound)
		}
		close(hold)
		synctest.Wait()
		p.stop()
		if got := p.live.Applied(); !slices.Equal(got, append(projectortest.Numbers(1, 10), projectortest.Numbers(1, 5)...)) || position(t, db) != 100 {
			t.Errorf("the runner applied %v, and the position is %d", got, position(t, db))
		}
	})
}
