package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal/codec"
)

// maxRead bounds the records of one Read, whatever the caller asks for.
const maxRead = 4096

// Record is one entry of the journal as a [Reader] returns it. Exactly one of Event, Relay and Err
// is set.
//
// Other readers have the same Event, Relay and Data: nobody may change them, or anything they point to. A
// record is valid until the Read after the next one of the same Reader. Strings stay valid for ever.
type Record struct {
	// Seq is the journal's sequence number of the record.
	Seq uint64
	// Event is the poll's reply, if the record is one.
	Event *codec.Event
	// Relay is the relay event, if the record is one.
	Relay *codec.RelayEvent
	// Data is the record as it is stored.
	Data []byte
	// Err says why the record could not be decoded (a *[codec.DecodeError], or [codec.ErrSubject]).
	// The record counts as read.
	Err error
}

// Reader reads the journal in order, from one place on and for ever. It keeps no position: where to
// begin the next time is the caller's to remember. Read is for one goroutine; Pending and Close are
// safe from any.
type Reader struct {
	j     *Journal
	ctx   context.Context // ends when the reader or the journal is closed
	close context.CancelFunc

	// Read's own.
	dec     codec.Decoder
	next    uint64    // the sequence number that must come; 0: whatever comes first
	jump    uint64    // where to go on after a block that cannot be read
	stuckAt uint64    // where it was last logged that reading does not go on
	rewinds int       // how many of the journal's rewinds it knows of
	from    time.Time // where to begin while next is 0; zero: at the oldest
	held    *nats.Msg // received, and not returned because of what is before it
	seq     uint64    // of held
	run     *embedded // that sent held
	apart   bool      // never reads from the tail; for tests
	batch             // what Read returns
	other   batch     // what it returned before that, still valid

	mu   sync.Mutex
	pull *pull  // nil while there is no consumer; set by Read alone
	seen uint64 // next, as Read left it
}

// batch is the memory of the records of one Read.
type batch struct {
	events  []codec.Event
	records []Record
}

// ReadFrom begins with the event numbered seq; 0 means with the oldest there is. When seq was
// dropped or is above the last number, the first Read returns a *GapError.
func (j *Journal) ReadFrom(seq uint64) (*Reader, error) { return j.reader(seq, time.Time{}) }

// ReadFromTime begins with the first event that was stored at t or later. An event is stored after
// its Time, so no event with a Time of t or later is left out; some with an earlier one may come
// first.
func (j *Journal) ReadFromTime(t time.Time) (*Reader, error) { return j.reader(0, t) }

func (j *Journal) reader(seq uint64, t time.Time) (*Reader, error) {
	select {
	case <-j.closing:
		return nil, &Error{Op: "read", Dir: j.o.Dir, Kind: ErrClosed}
	default:
		_, _, rewinds := j.runs.get()
		r := &Reader{j: j, next: seq, seen: seq, from: t, rewinds: len(rewinds), apart: j.o.noTail}
		r.ctx, r.close = context.WithCancel(j.ctx)
		return r, nil
	}
}

// Read returns the next records in order: it waits until there is one, or ctx ends, and takes what
// is there at once, at most max (and never more than some thousand). Only durable events are
// returned. They are valid until the Read after the next one, so that a batch can be read while the
// one before it is worked on.
//
// A *GapError comes instead of records when sequence numbers are missing; the next Read goes on
// after the gap. Any other error (of ctx, ErrClosed, ErrServer) leaves the reader where it was. A
// restart of the server inside is not seen.
func (r *Reader) Read(ctx context.Context, max int) ([]Record, error) {
	if max <= 0 {
		return nil, fmt.Errorf("journal: Read of %d records; ask for at least one", max)
	}
	max = min(max, maxRead)
	r.batch, r.other = r.other, r.batch
	r.records = r.records[:0]
	for tail := true; len(r.records) < max; {
		var err error
		if tail {
			tail, err = r.recent(ctx, max)
		}
		if !tail && err == nil {
			err = r.fromServer(ctx, max)
		}
		if err == errNotNow {
			break
		}
		if err != nil {
			if len(r.records) > 0 {
				break // first what came before; the error comes again
			}
			return nil, r.report(err)
		}
	}
	r.mu.Lock()
	if r.pull != nil {
		r.pull.returned += uint64(len(r.records))
	}
	r.seen = r.next
	r.mu.Unlock()
	return r.records, nil
}

// errNotNow ends a Read that has records already.
var errNotNow = errors.New("not now")

// fromServer takes the next record from the consumer. It waits unless the reader has records to
// return.
func (r *Reader) fromServer(ctx context.Context, max int) error {
	wait := len(r.records) == 0
	if wait {
		r.room(max)
	}
	if err := r.fetch(ctx, wait); err != nil {
		return err
	}
	if r.held == nil {
		return errNotNow
	}
	if err := r.contiguous(ctx); err != nil {
		return err
	}
	if err := r.durable(ctx, wait); err != nil {
		return err
	}
	r.records = append(r.records, r.record(r.held))
	r.next, r.held = r.seq+1, nil
	r.j.m.readServer.Inc()
	return nil
}

// room makes room for max events, in the memory of those of the Read before the last.
func (r *Reader) room(max int) {
	if cap(r.events) < max {
		events := make([]codec.Event, max)
		copy(events, r.events[:cap(r.events)])
		r.events = events
	}
	r.events = r.events[:max]
}

// contiguous finds what is missing before the held message.
func (r *Reader) contiguous(ctx context.Context) error {
	if r.next == 0 || r.seq == r.next {
		return nil
	}
	gap := &GapError{From: r.next, To: r.seq - 1, Reason: GapLost}
	if st, err := r.j.State(ctx); err == nil && st.FirstSeq >= r.seq {
		gap = r.beforeFirst(gap.From, gap.To)
	}
	return gap
}

// durable waits until the held message may be shown.
func (r *Reader) durable(ctx context.Context, wait bool) error {
	for {
		mark, _, moved := r.j.durable.get()
		ended := false
		select {
		case <-r.run.gone:
			ended = true // the mark may be the next run's, which has another event under this number
		default:
		}
		if r.seq <= mark && !ended {
			return nil
		}
		if !wait {
			return errNotNow
		}
		select {
		case <-moved:
		case <-r.run.gone:
			// It may not have become durable; ask the next run.
			r.drop()
			if err := r.fetch(ctx, true); err != nil {
				return err
			}
			if err := r.contiguous(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ctx.Done():
			return r.ended()
		}
	}
}

// report counts a gap that goes out to the caller.
func (r *Reader) report(err error) error {
	var gap *GapError
	if errors.As(err, &gap) {
		r.next = gap.To + 1
		if gap.Reason == GapRewound {
			r.next = gap.From
		}
		r.mu.Lock()
		r.seen = r.next
		r.mu.Unlock()
		r.j.lost(gap)
		r.j.log.Warn("a gap in the journal", "from", gap.From, "to", gap.To, "events", gap.Missing(), "reason", gap.Reason)
	}
	return err
}

// record decodes m into the reader's own memory.
func (r *Reader) record(m *nats.Msg) Record {
	rec := decode(&r.dec, r.seq, m.Subject, m.Data, &r.events[len(r.records)])
	if rec.Err != nil {
		r.j.m.undecodable.Inc()
	}
	return rec
}

// decode makes a record of what is stored. The record's event is in e.
func decode(d *codec.Decoder, seq uint64, subject string, data []byte, e *codec.Event) Record {
	rec := Record{Seq: seq, Data: data}
	event, relayEvent := codec.Kind(subject)
	switch {
	case event:
		rec.Event = e
		rec.Err = d.DecodeEvent(data, e)
	case relayEvent:
		rec.Relay = new(codec.RelayEvent) // rare
		rec.Err = d.DecodeRelayEvent(data, rec.Relay)
	default:
		rec.Err = fmt.Errorf("%w %q", codec.ErrSubject, subject)
	}
	if rec.Err != nil {
		rec.Event, rec.Relay = nil, nil
	}
	return rec
}

// ended is the error of a reader that was closed, or whose journal was.
func (r *Reader) ended() error {
	return &Error{Op: "read", Dir: r.j.o.Dir, Kind: ErrClosed}
}

// Pending counts the events after the last one that Read returned. It asks the server; when the
// server does not answer, it counts sequence numbers. 0 means that the reader has seen everything,
// also when the journal's last events are missing, so that their numbers will never come.
func (r *Reader) Pending() uint64 {
	r.mu.Lock()
	p, next := r.pull, r.seen
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.j.ctx, 5*time.Second)
	defer cancel()
	if p != nil {
		if n, err := p.pending(ctx, &r.mu); err == nil {
			return n
		}
	}
	st, err := r.j.State(ctx)
	if err != nil {
		last, _, _ := r.j.durable.get()
		return last + 1 - min(max(next, 1), last+1)
	}
	if next == 0 {
		return st.Messages
	}
	return min(st.Messages, st.LastSeq+1-min(next, st.LastSeq+1))
}

// Close ends the reader, also a Read that waits. It always returns nil.
func (r *Reader) Close() error {
	r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pull != nil {
		r.pull.close() // it may be closed already
	}
	return nil
}
