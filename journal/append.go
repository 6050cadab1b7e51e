package journal

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/journal/codec"
)

// request is one event on its way to the disk. Its state decides who gives it back to the pool: the
// appender when it has the answer, the committer when the appender went away.
type request struct {
	relay    *relay
	subject  string
	data     []byte
	readings int
	time     int64
	run      *orderedRun // nil: it stands alone

	state atomic.Uint32
	done  chan struct{} // holds one: seq and err are set
	seq   uint64
	err   error
}

const (
	stateQueued   = iota // the committer has not looked at it
	stateTaken           // it is in the batch being written
	stateDone            // seq and err are set
	stateCanceled        // the appender left before it was taken: it must not be written
	stateLeft            // the appender left while it was being written
)

// Append stores the event and returns its sequence number when it is durable (see the package
// comment). It is safe from any goroutine, does not keep e, and shares its fsync with whatever else
// is waiting.
//
// After nil the event is stored exactly once. After an error it is not stored, with two exceptions:
// ErrUnknown, and the context's error, which leave it open. An event must therefore not be appended
// again blindly after these; readings are better lost than counted twice. When the journal cannot
// be written Append fails at once (ErrDiskFull, ErrUnavailable) rather than waiting.
func (j *Journal) Append(ctx context.Context, e *codec.Event) (uint64, error) {
	r, err := j.eventRequest(e)
	if err != nil {
		return 0, err
	}
	return j.append(ctx, r)
}

// AppendRelayEvent stores a relay event, with the promises of Append.
func (j *Journal) AppendRelayEvent(ctx context.Context, e *codec.RelayEvent) (uint64, error) {
	r, err := j.relayEventRequest(e)
	if err != nil {
		return 0, err
	}
	return j.append(ctx, r)
}

// eventRequest makes the request for an event. It counts an event that cannot be stored.
func (j *Journal) eventRequest(e *codec.Event) (*request, error) {
	relay, err := j.relays.get(e.Key())
	if err != nil {
		return nil, j.refuse(err, e.Readings())
	}
	r := j.request()
	r.relay, r.subject, r.time, r.readings = relay, relay.readings, e.Time, e.Readings()
	if e.Past {
		r.subject += codec.PastSuffix
	}
	if r.data, err = codec.EncodeEvent(r.data, e); err != nil {
		return nil, j.dismiss(r, err)
	}
	return j.fitting(r, e.Edge)
}

func (j *Journal) relayEventRequest(e *codec.RelayEvent) (*request, error) {
	relay, err := j.relays.get(e.Key())
	if err != nil {
		return nil, j.refuse(err, 0)
	}
	r := j.request()
	r.relay, r.subject, r.time, r.readings = relay, relay.events, e.Time, 0
	r.data = codec.EncodeRelayEvent(r.data, e)
	return j.fitting(r, e.Edge)
}

// fitting refuses what is too large.
func (j *Journal) fitting(r *request, edge string) (*request, error) {
	most := MaxEventBytes
	if edge != "" {
		most = maxStored
	}
	if len(r.data) > most {
		return nil, j.dismiss(r, ErrTooLarge)
	}
	return r, nil
}

func (j *Journal) append(ctx context.Context, r *request) (uint64, error) {
	if err := j.enqueue(ctx, r); err != nil {
		return 0, err
	}
	return j.wait(ctx, r)
}

// enqueue hands r to the committer.
func (j *Journal) enqueue(ctx context.Context, r *request) error {
	select {
	case <-j.closing: // checked first, so that an append after Close never gets in
		return j.dismiss(r, ErrClosed)
	default:
	}
	select {
	case j.queue <- r:
		return nil
	case <-j.closing:
		return j.dismiss(r, ErrClosed)
	case <-ctx.Done():
		return j.dismiss(r, ctx.Err())
	}
}

// wait waits for the committer's answer.
func (j *Journal) wait(ctx context.Context, r *request) (uint64, error) {
	select {
	case <-r.done:
		return j.answer(r)
	case <-ctx.Done():
		return j.leave(r, ctx.Err())
	case <-j.stopped:
		return j.leave(r, ErrClosed)
	}
}

// leave gives r up because of why, unless the answer has come meanwhile.
func (j *Journal) leave(r *request, why error) (uint64, error) {
	readings := r.readings
	run := r.run
	if r.state.CompareAndSwap(stateQueued, stateCanceled) { // the committer drops it when it comes to it
		if run != nil {
			return 0, j.appendError(why)
		}
		return 0, j.refuse(why, readings)
	}
	if r.state.CompareAndSwap(stateTaken, stateLeft) {
		// Not counted as lost: the committer knows better in a moment.
		return 0, &Error{Op: "append", Dir: j.o.Dir, Kind: ErrUnknown, Err: why}
	}
	<-r.done
	return j.answer(r)
}

func (j *Journal) answer(r *request) (uint64, error) {
	seq, err := r.seq, r.err
	if err == nil {
		j.meter.appended.Add(int64(recordMin + len(r.subject) + len(r.data)))
	}
	j.release(r)
	return seq, err
}

// dismiss gives back a request that the committer has not got, and counts its event as not stored.
func (j *Journal) dismiss(r *request, err error) error {
	run, readings := r.run, r.readings
	j.release(r)
	if run != nil {
		return j.appendError(err)
	}
	return j.refuse(err, readings)
}

// refuse counts an event that was not stored.
func (j *Journal) refuse(err error, readings int) error {
	j.m.lose(err, 1, readings)
	return j.appendError(err)
}

// appendError makes an *Error of whatever kept an event from being stored.
func (j *Journal) appendError(err error) error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{Op: "append", Dir: j.o.Dir, Kind: kindOf(err), Err: causeOf(err)}
}

func (j *Journal) request() *request {
	if r, ok := j.pool.Get().(*request); ok {
		return r
	}
	return &request{done: make(chan struct{}, 1)}
}

func (j *Journal) release(r *request) {
	if cap(r.data) > 64<<10 {
		r.data = nil // one large event must not make every buffer large
	}
	r.data, r.err, r.seq, r.relay, r.run = r.data[:0], nil, 0, nil, nil
	r.state.Store(stateQueued)
	j.pool.Put(r)
}

// maxSubject bounds a subject well below what the server's protocol takes.
const maxSubject = 2048

// relay is what the journal keeps of a relay that appends.
type relay struct {
	readings, events string    // the subjects of its readings and of its relay events
	taken            time.Time // when the committer took its last event; the committer's
}

// relays keeps the relays seen, so that an append does not build subjects. It is emptied when it is
// full; a fleet fits.
type relays struct {
	mu sync.RWMutex
	m  map[codec.RelayKey]*relay
}

func (c *relays) get(key codec.RelayKey) (*relay, error) {
	c.mu.RLock()
	r := c.m[key]
	c.mu.RUnlock()
	if r != nil {
		return r, nil
	}
	readings, events := codec.Subjects(key)
	if readings == "" {
		return nil, ErrNoRelay
	}
	if len(readings)+len(codec.PastSuffix) > maxSubject {
		return nil, ErrTooLarge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.m[key]; r != nil {
		return r, nil // another append was faster
	}
	if c.m == nil || len(c.m) >= 1<<16 {
		c.m = make(map[codec.RelayKey]*relay)
	}
	r = &relay{readings: readings, events: events}
	c.m[codec.RelayKey{Edge: strings.Clone(key.Edge), Relay: strings.Clone(key.Relay)}] = r
	return r, nil
}
