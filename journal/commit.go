package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	maxBatchEvents = 1000
	maxBatchBytes  = 8 << 20
	// troubleTimeout is how long an acknowledgement is waited for after the server logged an error.
	troubleTimeout = 2 * time.Second
)

// committer is the one goroutine that writes: group commit. Everything that arrived while the last
// batch was on its way to the disk is the next one.
func (j *Journal) committer() {
	defer j.wg.Done()
	defer close(j.stopped)
	batch := make([]*request, 0, maxBatchEvents)
	for {
		var first *request
		came := j.taken // what is in the queue came after the last batch was taken
		select {
		case first = <-j.queue:
		default:
			select {
			case first = <-j.queue:
				came = time.Now()
			case <-j.closing:
				// What was queued before Close is still written.
				select {
				case first = <-j.queue:
				default:
					return
				}
			}
		}
		batch = j.gather(batch[:0], first, came)
		if len(batch) > 0 {
			j.commit(batch)
		}
		clear(batch)
	}
}

// commit writes a batch and answers every request of it.
func (j *Journal) commit(batch []*request) {
	size := 0
	for _, r := range batch {
		size += len(r.data)
	}
	if err := j.space.check(uint64(size)); err != nil {
		j.fail(batch, err)
		return
	}
	if j.blocked.Load() {
		j.fail(batch, ErrUnavailable)
		return
	}
	run, _, rewinds := j.runs.get() // there is a run: only broken takes it away
	start := time.Now()
	if err := run.write(batch, j.o.ackTimeout, j.ctx.Done()); err != nil {
		j.broken(run, batch, err)
		return
	}
	if j.unsynced += len(batch); j.o.Sync.every == 0 || j.unsynced >= maxUnsynced {
		before := time.Now()
		if err := run.blocks.sync(); err != nil {
			j.broken(run, batch, &syncError{err})
			return
		}
		j.m.fsync.Observe(time.Since(before).Seconds())
		j.unsynced = 0
	}
	base := run.last
	run.last += uint64(len(batch))
	j.failures = 0
	tail := newTailBatch(base+1, batch, size)
	messages := tail.messages // a reader may come to them as soon as they are in the tail
	j.durable.commit(tail, batch[len(batch)-1].time, len(rewinds))
	if run.outside != nil {
		run.outside.Committed(messages)
	}
	readings := 0
	for i, r := range batch {
		readings += r.readings
		j.reply(r, base+1+uint64(i), nil)
	}
	j.m.commit.Observe(time.Since(start).Seconds())
	j.m.batchEvents.Observe(float64(len(batch)))
	j.m.batches.Inc()
	j.m.events.Add(float64(len(batch)))
	j.m.readings.Add(float64(readings))
	j.m.bytes.Add(float64(size))
	j.m.lastSeq.Set(float64(run.last))
}

// syncError is a failed fsync: what the kernel holds of the blocks may not be what the disk gets.
type syncError struct{ err error }

func (e *syncError) Error() string { return "fsync: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

// errMismatch means that the server acknowledged another sequence number than the batch must have
// got.
var errMismatch = errors.New("the server acknowledged an unexpected sequence number")

// write hands the batch to the server and waits until the kernel has all of it. Only the last
// message asks for an acknowledgement: the server stores in order, and the sequence number shows
// whether it stored all.
func (r *embedded) write(batch []*request, timeout time.Duration, stop <-chan struct{}) error {
	select {
	case <-r.log.trouble: // an old one
	default:
	}
	msg := nats.Msg{}
	for i, q := range batch {
		msg.Subject, msg.Data = q.subject, q.data
		if i == len(batch)-1 {
			msg.Reply = r.ackSubject
		}
		if err := r.nc.PublishMsg(&msg); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
	return r.acknowledged(uint64(len(batch)), timeout, stop)
}

// acknowledged waits for the server to say that n more events are stored.
func (r *embedded) acknowledged(n uint64, timeout time.Duration, stop <-chan struct{}) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	trouble := r.log.trouble
	for {
		select {
		case m := <-r.acks:
			return r.checkAck(m.Data, r.last+n)
		case <-trouble:
			// The server logged an error. If that is why it does not answer there is no need to
			// wait for long.
			trouble = nil
			timer.Reset(min(timeout, troubleTimeout))
		case <-stop:
			return errors.New("the journal was closed before the server acknowledged")
		case <-timer.C:
			// This is how the server says that it could not write: not at all.
			return errors.New("the server did not acknowledge: it could not write")
		}
	}
}

func (r *embedded) checkAck(data []byte, want uint64) error {
	var ack struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("the server's acknowledgement: %w", err)
	}
	if ack.Error != nil {
		return fmt.Errorf("the server refused: %s (%d)", ack.Error.Description, ack.Error.Code)
	}
	if ack.Seq != want {
		return fmt.Errorf("%w: %d instead of %d", errMismatch, ack.Seq, want)
	}
	return nil
}

// fail answers a batch of which nothing was stored.
func (j *Journal) fail(batch []*request, err error) {
	for _, r := range batch {
		err := j.appendError(err)
		if r.run.fail(err); r.run == nil {
			j.m.lose(err, 1, r.readings)
		}
		j.reply(r, 0, err)
	}
}

// reply answers r, or gives it back if its appender left.
func (j *Journal) reply(r *request, seq uint64, err error) {
	r.seq, r.err = seq, err
	if r.state.CompareAndSwap(stateTaken, stateDone) {
		r.done <- struct{}{}
		return
	}
	j.release(r)
}
