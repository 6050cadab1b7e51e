package projector

import (
	"context"
	"time"

	"github.com/nanopack/pulse/journal"
)

// aheadPatience is how long a batch is waited for that is read ahead: its records are there already.
const aheadPatience = 100 * time.Millisecond

// ahead is a batch that is read while the one before it is applied.
type ahead struct {
	done    chan struct{} // closed when the following is set
	records []journal.Record
	err     error
}

// readAhead has the next batch read, if the journal is known to have a whole one: reading and applying take turns otherwise,
// and whoever has much to catch up with waits for both.
func (r *Runner) readAhead() {
	if r.draining() || r.behind() < 2*uint64(r.o.BatchRecords) {
		return
	}
	a, reader := &ahead{done: make(chan struct{})}, r.reader
	r.ahead = a
	go func() {
		defer close(a.done)
		ctx, cancel := context.WithTimeout(r.idle, aheadPatience)
		defer cancel()
		a.records, a.err = reader.Read(ctx, r.o.BatchRecords)
	}()
}

// await returns what was read ahead, nil if nothing was.
func (r *Runner) await() *ahead {
	a := r.ahead
	if a != nil {
		<-a.done
		r.ahead = nil
	}
	return a
}
