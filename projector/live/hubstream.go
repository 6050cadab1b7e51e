package live

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
)

const (
	// enough ends a Next: what one write to a client has at least, if there is so much.
	enough = 64 << 10
	// linger is how long a stream that just sent something waits for more, so that a busy one costs a write every so often and
	// not one a record. The first reading after a quiet time is sent at once.
	linger = 5 * time.Millisecond
	// idEvery is after how many records without a match the client is told how far it is, so that it need not begin
	// there again.
	idEvery = 8192
	// readBatch is how many records are read from the journal at a time, takeBatch from the ring.
	readBatch = 256
	takeBatch = 32
	// turn is how long a stream may read the journal while others wait to.
	turn = 10 * time.Second
	// stateTimeout is how long the journal may take to tell its state.
	stateTimeout = 5 * time.Second

	greeting  = "retry: 1000\n"
	heartbeat = ": beat\n"
)

// errOver is inside only: the stream has said good-bye.
var errOver = errors.New("live: the stream is over")

// Stream is one client's view of the journal, as server-sent events. Its methods are for one goroutine.
//
// It reads from the journal until it meets the ring, then from there. Every record of the journal with readings that match becomes one
// message, whose id is the record's sequence number; so a client that resumes behind the last id it has seen misses
// nothing and sees nothing twice.
type Stream struct {
	h     *Hub
	match matcher
	pos   uint64 // the last record that was dealt with
	told  uint64 // the last id that the client has

	begun    bool
	over     bool // nothing comes after what was returned
	closed   bool
	ringed   bool   // it reads from the ring
	next     uint64 // from this number on
	epoch    int    // the hub's when it came to the ring
	passed   uint64 // messages in this Next
	entries  [takeBatch]entry
	timer    *time.Timer
	beatAt   time.Time
	lingerTo time.Time

	// While it reads the journal.
	reader  projector.Reader
	since   time.Time // when it got its turn
	encoder *encoder
	held    []journal.Record // read and not dealt with
}

// Next waits until there is something to say and appends it to dst: one or more whole server-sent events, readings as they come, about
// 64 KiB at a time and never more than that and one message. An event "gap" says which records the journal does not have.
//
// io.EOF means that the stream is over; an event "dropped" before it has said why. Any other error is ctx's.
func (s *Stream) Next(ctx context.Context, dst []byte) ([]byte, error) {
	if s.over || s.closed {
		return dst, io.EOF
	}
	begin := len(dst)
	s.passed = 0
	dst, err := s.fill(ctx, dst)
	s.h.metrics.sent.Add(float64(s.passed))
	if errors.Is(err, errOver) {
		s.over, err = true, nil
	}
	if len(dst) > begin {
		now := time.Now()
		s.beatAt = now.Add(s.h.o.Heartbeat)
		s.lingerTo = time.Time{}
		if s.ringed && s.passed > 0 && len(dst)-begin < enough {
			s.lingerTo = now.Add(linger)
		}
		return dst, nil // an error of ctx comes again
	}
	return dst, err
}

func (s *Stream) fill(ctx context.Context, dst []byte) ([]byte, error) {
	if !s.begun {
		s.begun = true
		return s.greet(ctx, dst)
	}
	if d := time.Until(s.lingerTo); d > 0 {
		if _, err := s.wait(ctx, nil, d); err != nil {
			return dst, err
		}
	}
	for begin := len(dst); ; {
		var changed <-chan struct{}
		var err error
		if s.ringed {
			dst, changed, err = s.fromRing(dst)
		} else {
			dst, err = s.fromJournal(ctx, dst)
		}
		if err != nil || len(dst) > begin {
			return dst, err
		}
		if s.pos >= s.told+idEvery {
			return s.appendID(dst), nil
		}
		beat := !time.Now().Before(s.beatAt)
		if !beat && changed != nil {
			if beat, err = s.wait(ctx, changed, time.Until(s.beatAt)); err != nil {
				return dst, err
			}
		}
		if beat {
			return s.appendID(append(dst, heartbeat...)), nil
		}
	}
}

// wait waits for changed (nil: for the time alone), and says whether the time came first.
func (s *Stream) wait(ctx context.Context, changed <-chan struct{}, d time.Duration) (late bool, err error) {
	s.timer.Reset(d)
	select {
	case <-changed:
		return false, nil
	case <-s.timer.C:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// greet begins the stream. A client whose place lies behind the journal's end is told so, and begins at the end.
func (s *Stream) greet(ctx context.Context, dst []byte) ([]byte, error) {
	dst = append(dst, greeting...)
	s.h.mu.Lock()
	ahead := s.pos > s.h.applied
	s.h.mu.Unlock()
	if ahead { // or the hub has not come so far yet
		state, err := s.state(ctx)
		if err != nil {
			return s.unreadable(ctx, dst, err)
		}
		if s.pos > state.LastSeq {
			return s.gap(dst, state.LastSeq+1, s.pos, journal.GapRewound), nil
		}
	}
	return s.appendID(dst), nil
}

// fromRing appends what the ring has behind the stream's place. If there is nothing it returns what to wait for.
func (s *Stream) fromRing(dst []byte) ([]byte, <-chan struct{}, error) {
	for begin := len(dst); len(dst)-begin < enough; {
		h := s.h
		h.mu.Lock()
		if s.epoch != h.epoch {
			end := h.from
			h.mu.Unlock()
			s.ringed = false // what lies between is read from the journal
			if s.pos > end {
				dst = s.gap(dst, end+1, s.pos, journal.GapRewound)
			}
			return dst, nil, nil
		}
		n, ok := h.ring.take(s.next, s.entries[:])
		if n == 0 && ok {
			s.pos = max(s.pos, h.applied)
			if h.changed == nil {
				h.changed = make(chan struct{})
			}
			changed := h.changed
			h.mu.Unlock()
			return dst, changed, nil
		}
		h.mu.Unlock()
		if !ok {
			if len(dst) > begin {
				return dst, nil, nil // that comes first
			}
			h.metrics.slow.Inc()
			return s.goodbye(dst, "the client is too slow")
		}
		dst = s.appendEntries(dst, n, begin)
		clear(s.entries[:n])
	}
	return dst, nil, nil
}

// appendEntries appends the first n entries taken, until it is enough.
func (s *Stream) appendEntries(dst []byte, n, begin int) []byte {
	for i := range n {
		e := &s.entries[i]
		s.next++
		switch {
		case e.seq <= s.pos: // read from the journal already
		case e.from != 0:
			dst = s.gap(dst, max(e.from, s.pos+1), e.seq, journal.GapLost)
		default:
			var some bool
			if dst, some = appendSelected(dst, e, &s.match); some {
				s.message(e.seq)
			}
			s.pos = e.seq
		}
		if len(dst)-begin >= enough {
			break
		}
	}
	return dst
}

// fromJournal appends the next readings from the journal, or goes over to the ring. It returns nothing when the time for a
// heartbeat has come.
func (s *Stream) fromJournal(ctx context.Context, dst []byte) ([]byte, error) {
	if len(s.held) == 0 {
		if s.meet() {
			s.closeReader()
			return dst, nil
		}
		var err error
		if s.reader == nil {
			begin := len(dst)
			dst, err = s.openReader(ctx, dst)
			if err != nil || s.reader == nil || len(dst) > begin {
				return dst, err
			}
		} else if s.yields() {
			s.closeReader()
			return dst, nil
		}
		rctx, cancel := context.WithDeadline(ctx, s.beatAt)
		defer cancel()
		s.held, err = s.reader.Read(rctx, readBatch)
		gap, isGap := errors.AsType[*journal.GapError](err)
		switch {
		case isGap && gap.Reason == journal.GapRewound:
			return s.gap(dst, gap.From, max(s.pos, gap.From), gap.Reason), nil
		case isGap:
			return s.gap(dst, gap.From, gap.To, gap.Reason), nil
		case err != nil && rctx.Err() != nil:
			return dst, ctx.Err()
		case err != nil:
			return s.unreadable(ctx, dst, err)
		}
	}
	for begin := len(dst); len(s.held) > 0 && len(dst)-begin < enough; s.held = s.held[1:] {
		r := &s.held[0]
		if r.Event != nil {
			var some bool
			if dst, some = s.encoder.appendMatching(dst, r.Seq, r.Event, &s.match); some {
				s.message(r.Seq)
			}
		}
		s.pos = r.Seq
	}
	return dst, nil
}

// meet goes over to the ring if the stream's place is in it, and not so near its old end that it would fall out again at once.
func (s *Stream) meet() bool {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.meetLocked()
}

func (s *Stream) meetLocked() bool {
	h := s.h
	if !h.ring.safe(s.pos, h.applied) {
		return false
	}
	s.ringed, s.epoch, s.next = true, h.epoch, h.ring.find(s.pos)
	return true
}

// openReader waits for a turn to read the journal, at most until a heartbeat is due, and opens a reader.
func (s *Stream) openReader(ctx context.Context, dst []byte) ([]byte, error) {
	h := s.h
	select {
	case h.readers <- struct{}{}:
	default:
		s.waits(1)
		defer s.waits(-1)
		s.timer.Reset(time.Until(s.beatAt))
		select {
		case h.readers <- struct{}{}:
		case <-s.timer.C:
			return dst, nil
		case <-ctx.Done():
			return dst, ctx.Err()
		}
	}
	h.metrics.readers.Inc()
	s.since = time.Now()
	state, err := s.state(ctx)
	if err == nil {
		if first := state.FirstSeq; first > s.pos+1 && first <= state.LastSeq+1 {
			// The reader tells of it when the next record comes.
			dst = s.gap(dst, s.pos+1, first-1, journal.GapRetention)
		}
		s.reader, err = h.o.Journal.ReadFrom(s.pos + 1)
	}
	if err != nil {
		<-h.readers
		h.metrics.readers.Dec()
		return s.unreadable(ctx, dst, err)
	}
	s.encoder = newEncoder(h.metrics)
	return dst, nil
}

func (s *Stream) waits(n int) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.waiting += n
}

// yields says whether it is another stream's turn to read the journal.
func (s *Stream) yields() bool {
	if time.Since(s.since) < turn {
		return false
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.h.waiting > 0
}

func (s *Stream) closeReader() {
	if s.reader == nil {
		return
	}
	if err := s.reader.Close(); err != nil {
		s.h.o.Logger.Warn("closing the journal's reader failed", "error", err)
	}
	s.reader, s.encoder, s.held = nil, nil, nil
	<-s.h.readers
	s.h.metrics.readers.Dec()
}

func (s *Stream) state(ctx context.Context) (journal.State, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return s.h.o.Journal.State(ctx)
}

// unreadable ends the stream because the journal cannot be read; the client may come again.
func (s *Stream) unreadable(ctx context.Context, dst []byte, err error) ([]byte, error) {
	if ctx.Err() != nil {
		return dst, ctx.Err()
	}
	s.h.metrics.unreadable.Inc()
	s.h.warn.Do(func() { s.h.o.Logger.Warn("the journal cannot be read for a client that resumes", "error", err) })
	dst, _, err = s.goodbye(dst, "the journal cannot be read at the moment")
	return dst, err
}

// message notes a message.
func (s *Stream) message(seq uint64) {
	s.told = seq
	s.passed++
}

// gap says that records are missing. After one of GapRewound the next record is from, otherwise the one behind to.
func (s *Stream) gap(dst []byte, from, to uint64, reason string) []byte {
	s.pos = to
	if reason == journal.GapRewound {
		s.pos = from - 1
	}
	s.h.metrics.gaps.Inc()
	dst = append(dst, "event: gap\ndata: {\"from\":"...)
	dst = strconv.AppendUint(dst, from, 10)
	dst = strconv.AppendUint(append(dst, `,"to":`...), to, 10)
	dst = strconv.AppendUint(append(dst, `,"count":`...), to-from+1, 10)
	dst = appendString(append(dst, `,"reason":`...), reason)
	return s.appendID(append(dst, "}\n"...))
}

// goodbye ends the stream.
func (s *Stream) goodbye(dst []byte, reason string) ([]byte, <-chan struct{}, error) {
	dst = appendString(append(dst, "event: dropped\ndata: {\"reason\":"...), reason)
	dst = strconv.AppendUint(append(dst, `,"resume":"Last-Event-ID `...), s.pos, 10)
	return s.appendID(append(dst, "\"}\n"...)), nil, errOver
}

// appendID ends an event with the id of the stream's place. An event that is nothing else shows the client nothing and has
// it remember.
func (s *Stream) appendID(dst []byte) []byte {
	s.told = s.pos
	dst = strconv.AppendUint(append(dst, "id: "...), s.pos, 10)
	return append(dst, '\n', '\n')
}

// Close ends the stream. It may be called again.
func (s *Stream) Close() {
	if s.closed {
		return
	}
	s.closed = true
	s.timer.Stop()
	s.closeReader()
	s.h.leave()
}
