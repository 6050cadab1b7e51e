package journal

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal/codec"
)

// LastOf returns the newest record that was taken from an edge, false if there is none. The record is
// durable when LastOf returns. It may have an Err instead of an event.
func (j *Journal) LastOf(ctx context.Context, edge string) (Record, bool, error) {
	return j.ofEdge(ctx, func(ctx context.Context, run *embedded) (*jetstream.RawStreamMsg, error) {
		return run.stream.GetLastMsgForSubject(ctx, codec.OfEdge(edge))
	})
}

// LastSeq is the number of the newest durable event. It answers from memory.
func (j *Journal) LastSeq() uint64 {
	seq, _, _ := j.durable.get()
	return seq
}

// NextOf returns the first record from the number seq on that was taken from an edge, as LastOf does.
func (j *Journal) NextOf(ctx context.Context, edge string, seq uint64) (Record, bool, error) {
	return j.ofEdge(ctx, func(ctx context.Context, run *embedded) (*jetstream.RawStreamMsg, error) {
		return run.stream.GetMsg(ctx, max(seq, 1), jetstream.WithGetMsgSubject(codec.OfEdge(edge)))
	})
}

func (j *Journal) ofEdge(ctx context.Context, get func(context.Context, *embedded) (*jetstream.RawStreamMsg, error)) (Record, bool, error) {
	run := j.runs.current()
	if run == nil {
		return Record{}, false, j.absent("read")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	msg, err := get(ctx, run)
	if err == nil {
		err = j.untilDurable(ctx, msg.Sequence)
	}
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return Record{}, false, nil
	case err != nil:
		return Record{}, false, &Error{Op: "read", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	return decode(new(codec.Decoder), msg.Sequence, msg.Subject, msg.Data, new(codec.Event)), true, nil
}

// untilDurable waits for the event seq, which may be written and not be durable yet.
func (j *Journal) untilDurable(ctx context.Context, seq uint64) error {
	for {
		mark, _, moved := j.durable.get()
		if seq <= mark {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-j.closing:
			return ErrClosed
		}
	}
}
