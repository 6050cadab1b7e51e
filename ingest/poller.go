package ingest

import (
	"context"
	"sync"
)

// poller polls all relays. It waits for none of them: writing to a connection never blocks it, and
// a relay whose lock is taken is polled by a goroutine of its own.
type poller struct {
	schedule *schedule
	busy     sync.WaitGroup // the polls of relays whose lock was taken
}

// run polls until ctx ends. No poll is under way when it has returned.
func (p *poller) run(ctx context.Context) {
	defer p.busy.Wait()
	var due []*relay
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.schedule.timer.C:
		}
		due = p.schedule.take(due[:0])
		for _, r := range due {
			if r.mu.TryLock() {
				r.pollLocked()
				r.mu.Unlock()
			} else {
				p.busy.Go(r.poll)
			}
		}
		clear(due) // a relay that is forgotten takes no memory
		p.schedule.rest()
	}
}
