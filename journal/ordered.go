package journal

import (
	"context"
	"errors"
	"sync/atomic"
)

// orderedRun is what the requests of one AppendInOrder share: after one that failed no other is
// stored. The zero value has no failure.
type orderedRun struct{ failed atomic.Pointer[error] }

// fail notes a failure. A nil run, of a request that stands alone, notes nothing.
func (o *orderedRun) fail(err error) {
	if o != nil {
		o.failed.CompareAndSwap(nil, &err)
	}
}

// failure returns the failure, or nil.
func (o *orderedRun) failure() error {
	if o == nil {
		return nil
	}
	if err := o.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// AppendInOrder stores the events and relay events of records, whose numbers do not matter. It
// returns when all of them are durable; they share their fsyncs with each other and with whatever
// else is waiting. After an error a first part of them may be stored: none is stored unless all
// before it are. [Journal.LastOf] tells which was the last one. ctx ends only the wait for a place in
// the queue. What is not stored is not counted as lost: whoever appends it still has it.
func (j *Journal) AppendInOrder(ctx context.Context, records []Record) error {
	run := new(orderedRun)
	waiting := make([]*request, 0, len(records))
	var failed error
	for i := range records {
		var r *request
		if e := records[i].Event; e != nil {
			r, failed = j.eventRequest(e)
		} else if e := records[i].Relay; e != nil {
			r, failed = j.relayEventRequest(e)
		} else {
			failed = errors.New("journal: a record without an event cannot be appended")
		}
		if failed == nil {
			r.run = run
			failed = j.enqueue(ctx, r)
		}
		if failed != nil {
			break
		}
		waiting = append(waiting, r)
	}
	var first error
	for _, r := range waiting {
		if _, err := j.wait(context.WithoutCancel(ctx), r); err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return failed
}
