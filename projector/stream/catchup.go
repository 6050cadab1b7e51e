package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

const (
	// readBatch is how many records are read from the journal at a time.
	readBatch = 256
	// turn is how long a subscription may read the journal while others wait to.
	turn = 10 * time.Second
)

// catchup is how a subscription reads the journal. reader is nil while another's turn is waited
// for.
type catchup struct {
	reader  projector.Reader
	since   time.Time // when the turn began
	encoder *encoder
	held    []journal.Record // read and not dealt with
}

// fromJournal appends the next readings from the journal, or goes over to the ring. It appends
// nothing when a heartbeat is due.
func (s *Subscription) fromJournal(ctx context.Context, dst []byte) ([]byte, error) {
	if len(s.held) == 0 {
		var err error
		if dst, err = s.read(ctx, dst); err != nil {
			return dst, err
		}
	}
	for begin := len(dst); len(s.held) > 0 && len(dst)-begin < enough; s.held = s.held[1:] {
		r := &s.held[0]
		s.pos = r.Seq
		if r.Event == nil || r.Event.Past {
			continue
		}
		if e, ok := s.encoder.encode(r.Seq, r.Event); ok {
			dst = s.message(dst, &e)
		}
	}
	return dst, nil
}

// read fills held with the next records, waiting until a heartbeat is due at most. A gap before
// them is appended instead of records.
func (s *Subscription) read(ctx context.Context, dst []byte) ([]byte, error) {
	if s.meet() {
		s.closeReader()
		return dst, nil
	}
	if time.Since(s.since) >= turn && s.h.turns.wanted() {
		s.closeReader()
	}
	err := s.openReader(ctx)
	if err == nil && s.reader == nil {
		return dst, nil
	}
	readCtx, cancel := context.WithDeadline(ctx, s.beatAt)
	defer cancel()
	if err == nil {
		s.held, err = s.reader.Read(readCtx, readBatch)
	}
	gap, isGap := errors.AsType[*journal.GapError](err)
	switch {
	case err == nil:
		return dst, nil
	case isGap && gap.Reason == journal.GapRewound:
		return s.gap(dst, gap.From, max(s.pos, gap.From), gap.Reason), nil
	case isGap:
		return s.gap(dst, gap.From, gap.To, gap.Reason), nil
	case readCtx.Err() != nil:
		return dst, ctx.Err()
	}
	s.h.metrics.unreadable.Inc()
	s.h.log.WarnRarely("read", "the journal cannot be read for a client that resumes", "error", err)
	return s.end(dst, "the journal cannot be read at the moment"), nil
}

// meet goes over to the ring if the subscription's position is in it, and not so near its old end
// that it would be dropped at once. It reports whether it did.
func (s *Subscription) meet() bool {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.cursor = s.h.cursorAt(s.pos)
	return s.cursor.valid
}

// openReader opens a reader, unless one is open, after waiting for a turn. The reader stays nil
// when a heartbeat is due first.
func (s *Subscription) openReader(ctx context.Context) error {
	if s.reader != nil {
		return nil
	}
	s.timer.Reset(time.Until(s.beatAt))
	if ok, err := s.h.turns.take(ctx, s.timer); !ok {
		return err
	}
	reader, err := s.h.o.Journal.ReadFrom(s.pos + 1)
	if err != nil {
		s.h.turns.give()
		return err
	}
	s.h.metrics.readers.Inc()
	s.catchup = catchup{reader: reader, since: time.Now(), encoder: newEncoder(s.h.metrics)}
	return nil
}

// closeReader ends the turn, if there is one.
func (s *Subscription) closeReader() {
	if s.reader == nil {
		return
	}
	if err := s.reader.Close(); err != nil {
		s.h.log.Warn("closing the journal's reader failed", "error", err)
	}
	s.catchup = catchup{}
	s.h.turns.give()
	s.h.metrics.readers.Dec()
}
