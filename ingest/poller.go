package ingest

import (
	"context"
	"time"
)

// poller is the goroutine that polls every relay when it is time to. Asking is nothing but queueing a
// line, so that no relay can hold it up.
type poller struct {
	env    *env
	buffer pollBuffer
}

// run polls until ctx ends.
func (p *poller) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		r, wait := p.env.schedule.take(p.env.tick())
		if r != nil {
			p.env.schedule.add(r, r.poll(&p.buffer))
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.env.schedule.wake:
		case <-ctx.Done():
		}
	}
}
