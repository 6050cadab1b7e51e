package journal

import (
	"testing"
	"testing/synctest"
	"time"
)

// A gathering is a committer without a server, in a synctest bubble. The last batch was taken at
// its beginning.
type gathering struct {
	*Journal
	began time.Time
}

func newGathering() *gathering {
	return &gathering{began: time.Now(), Journal: &Journal{
		queue: make(chan *request, 2*maxBatchEvents), closing: make(chan struct{}), taken: time.Now()}}
}

// newcomer is an event of a relay that had none before.
func newcomer() *request { return &request{relay: &relay{}, done: make(chan struct{}, 1)} }

// after has a request come after d.
func (g *gathering) after(d time.Duration, r *request) {
	go func() {
		time.Sleep(d)
		g.queue <- r
	}()
}

// gather gathers a batch that begins with first now, and checks its size and how long it waited.
func (g *gathering) gather(t *testing.T, first *request, events int, waited time.Duration) []*request {
	t.Helper()
	began := time.Now()
	batch := g.Journal.gather(nil, first, began)
	if got := time.Since(began); len(batch) != events || got != waited {
		t.Errorf("a batch of %d events after %v, want %d after %v", len(batch), got, events, waited)
	}
	for _, r := range batch {
		if r.state.Load() != stateTaken {
			t.Error("an event of the batch is not taken")
		}
	}
	return batch
}

func TestCompany(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, g *gathering){
		"an event after a quiet time does not wait": func(t *testing.T, g *gathering) {
			time.Sleep(companyRecent)
			g.gather(t, newcomer(), 1, 0)
			time.Sleep(companyRecent)
			g.after(0, newcomer())
			synctest.Wait()
			g.gather(t, newcomer(), 2, 0) // what is there comes along
		},
		"traffic shares a batch": func(t *testing.T, g *gathering) {
			for i := range 10 {
				g.after(time.Duration(i+1)*time.Millisecond+1, newcomer())
			}
			g.gather(t, newcomer(), 4, companyWait)
		},
		"a wait is counted from the first event": func(t *testing.T, g *gathering) {
			g.after(0, newcomer())
			time.Sleep(3 * time.Millisecond) // the batch before is being written
			began := time.Now()
			if batch := g.Journal.gather(nil, newcomer(), g.began); len(batch) != 2 || time.Since(began) != companyWait-3*time.Millisecond {
				t.Errorf("%d events after %v", len(batch), time.Since(began))
			}
			time.Sleep(2 * companyWait)
			began = time.Now()
			if g.Journal.gather(nil, newcomer(), g.taken); time.Since(began) != 0 {
				t.Errorf("it waits %v after a long write", time.Since(began))
			}
		},
		"whoever had an answer just now does not wait": func(t *testing.T, g *gathering) {
			r := newcomer()
			g.gather(t, r, 1, companyWait)
			next := &request{relay: r.relay, done: make(chan struct{}, 1)}
			g.gather(t, next, 1, 0)
			// It ends the wait of others too.
			next = &request{relay: r.relay, done: make(chan struct{}, 1)}
			g.after(time.Millisecond, next)
			g.gather(t, newcomer(), 2, time.Millisecond)
			// Polled again, it waits.
			time.Sleep(companyRecent - 1)
			g.gather(t, newcomer(), 1, companyWait)
			g.gather(t, &request{relay: r.relay, done: make(chan struct{}, 1)}, 1, companyWait)
		},
		"a batch that is large enough does not wait": func(t *testing.T, g *gathering) {
			for range companyEvents - 2 {
				g.queue <- newcomer()
			}
			g.after(time.Millisecond, newcomer())
			g.gather(t, newcomer(), companyEvents, time.Millisecond)
		},
		"a full batch does not wait": func(t *testing.T, g *gathering) {
			for range maxBatchEvents {
				g.queue <- newcomer()
			}
			g.gather(t, newcomer(), maxBatchEvents, 0)
			large := newcomer()
			large.data = make([]byte, maxBatchBytes)
			g.gather(t, large, 1, 0)
		},
		"a close ends the wait": func(t *testing.T, g *gathering) {
			go func() {
				time.Sleep(time.Millisecond)
				close(g.closing)
			}()
			g.gather(t, newcomer(), 1, time.Millisecond)
			g.gather(t, newcomer(), 1, 0)
		},
		"nothing waits while it cannot be written": func(t *testing.T, g *gathering) {
			g.blocked.Store(true)
			g.gather(t, newcomer(), 1, 0)
		},
		"an event that is canceled while it waits is not written": func(t *testing.T, g *gathering) {
			first, second := newcomer(), newcomer()
			g.after(time.Millisecond, second)
			go func() {
				time.Sleep(2 * time.Millisecond)
				first.state.CompareAndSwap(stateQueued, stateCanceled)
			}()
			if batch := g.gather(t, first, 1, companyWait); batch[0] != second {
				t.Error("the canceled event is in the batch")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(t, newGathering())
				time.Sleep(time.Second) // what comes after the test has come
			})
		})
	}
}
