package journal

import "time"

// Commits wait for company. A batch costs an fsync and a round trip through the server, whether it
// has one event or fifty. So while events come shortly after one another, the first one of a batch
// waits for others. An event after a quiet time does not: nothing says that another one will come.
const (
	// companyWait is how long the first event of a batch waits at most.
	companyWait = 4 * time.Millisecond
	// companyRecent is how long ago the last batch was taken at most, so that events are expected.
	companyRecent = 20 * time.Millisecond
	// companyEvents is a batch that is large enough. More events make an event hardly cheaper.
	companyEvents = 64
)

// gather takes first and what else is waiting, up to the limits of a batch, and waits for company.
// first came at came, or later.
//
// A relay that had an event in a batch just before appends the next one only after it got the
// answer. Whoever waits for answers is not made to wait for company: nothing else may be coming. A
// relay that is polled does not come again that soon.
func (j *Journal) gather(batch []*request, first *request, came time.Time) []*request {
	size := 0
	alone := came.Sub(j.taken) >= companyRecent
	var over <-chan time.Time // when the wait is over; nil before it begins
	for r := first; ; {
		batch = append(batch, r)
		size += len(r.data)
		alone = alone || came.Sub(r.relay.taken) < companyRecent
		if len(batch) >= maxBatchEvents || size >= maxBatchBytes {
			return j.take(batch)
		}
		select {
		case r = <-j.queue:
			continue
		default:
		}
		if alone || len(batch) >= companyEvents || j.blocked.Load() {
			return j.take(batch)
		}
		if over == nil {
			wait := companyWait - time.Since(came)
			if wait <= 0 {
				return j.take(batch)
			}
			over = time.After(wait)
		}
		select {
		case r = <-j.queue:
		case <-over:
			return j.take(batch)
		case <-j.closing:
			return j.take(batch)
		}
	}
}

// take makes the batch the one that is written. Events whose appenders left are not in it, nor those
// that may only be stored after one that was not.
func (j *Journal) take(batch []*request) []*request {
	j.taken = time.Now()
	taken := batch[:0]
	for _, r := range batch {
		switch {
		case !r.state.CompareAndSwap(stateQueued, stateTaken):
			j.release(r)
		case r.run.failure() != nil:
			j.reply(r, 0, r.run.failure())
		default:
			r.relay.taken = j.taken
			taken = append(taken, r)
		}
	}
	clear(batch[len(taken):])
	return taken
}
