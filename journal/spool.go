package journal

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal/codec"
)

// Spooled returns what the newest events of a relay say of its spool: the newest that came as the
// relay measured it, and the newest from the past. Each is zero if there is none, if that event is of
// a time when the relay had no spool, or if it cannot be decoded. The events are durable when Spooled returns.
func (j *Journal) Spooled(ctx context.Context, relay string) (took, past codec.Spool, err error) {
	run := j.runs.current()
	if run == nil {
		return took, past, j.absent("read")
	}
	r, err := j.relays.get(codec.RelayKey{Relay: relay})
	if err == nil {
		took, err = j.spoolOf(ctx, run, r.readings)
	}
	if err == nil {
		past, err = j.spoolOf(ctx, run, r.readings+codec.PastSuffix)
	}
	if err != nil {
		return codec.Spool{}, codec.Spool{}, &Error{Op: "read", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	return took, past, nil
}

// spoolOf returns the spool of the newest event of a subject.
func (j *Journal) spoolOf(ctx context.Context, run *embedded, subject string) (codec.Spool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	msg, err := run.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return codec.Spool{}, nil
	}
	if err != nil {
		return codec.Spool{}, err
	}
	if err := j.untilDurable(ctx, msg.Sequence); err != nil {
		return codec.Spool{}, err
	}
	var e codec.Event
	if err := new(codec.Decoder).DecodeEvent(msg.Data, &e); err != nil {
		// An error would keep the relay away for as long as this is its newest event.
		j.log.Warn("an event does not say which records of its relay's spool are in the journal; some may come twice",
			"subject", subject, "event", msg.Sequence, "error", err)
		return codec.Spool{}, nil
	}
	return e.Spool, nil
}
