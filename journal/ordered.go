package journal

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nanopack/pulse/journal/codec"
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
// else is waiting. After an error the first n are durable, and none of the others is stored but, if the
// error is ErrUnknown, perhaps those that follow directly: [Journal.LastOf] tells. None is stored unless
// all before it are. An error of [Unfit] is about record n itself. ctx ends only the wait for a place in
// the queue. What is not stored is not counted as lost: whoever appends it still has it.
func (j *Journal) AppendInOrder(ctx context.Context, records []Record) (n int, err error) {
	run := new(orderedRun)
	waiting := make([]*request, 0, len(records))
	for i := range records {
		var r *request
		if e := records[i].Event; e != nil {
			r, err = j.eventRequest(e)
		} else if e := records[i].Relay; e != nil {
			r, err = j.relayEventRequest(e)
		} else {
			err = errors.New("journal: a record without an event cannot be appended")
		}
		if err == nil {
			r.run = run
			err = j.enqueue(ctx, r)
		}
		if err != nil {
			break
		}
		waiting = append(waiting, r)
	}
	var failed error
	for _, r := range waiting {
		if _, e := j.wait(context.WithoutCancel(ctx), r); failed == nil {
			if failed = e; e == nil {
				n++
			}
		}
	}
	if failed != nil {
		return n, failed
	}
	return n, err
}

// Unfit reports whether an append failed because the event itself can never be stored.
func Unfit(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNoRelay) || errors.Is(err, codec.ErrNotFinite)
}
