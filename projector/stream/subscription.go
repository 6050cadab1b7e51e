package stream

import (
	"context"
	"io"
	"time"

	"github.com/nanopack/pulse/journal"
)

const (
	// enough ends a Next: one write to a client has at least so many bytes, if there are so many.
	enough = 64 << 10
	// linger is how long a subscription that just sent something waits for more, so that a busy one
	// costs a write every so often and not one a record. The first reading after a quiet time is
	// sent at once.
	linger = 5 * time.Millisecond
	// idEvery is after how many records without a match the client gets the newest id, so that it
	// need not begin before them again.
	idEvery = 8192
	// takeBatch is how many entries are copied from the ring at a time.
	takeBatch = 32
)

// Subscription is one client's view of the journal. It reads the journal until its position is in
// the ring, then the ring. Its methods are for one goroutine.
type Subscription struct {
	h     *Hub
	match matcher
	pos   uint64 // the last record that was dealt with
	told  uint64 // the last id that the client has

	begun    bool
	over     bool // nothing comes after what was returned
	closed   bool
	passed   uint64 // messages in this Next
	timer    *time.Timer
	beatAt   time.Time
	lingerTo time.Time

	cursor // none while the journal is read
	taken  [takeBatch]entry

	catchup
}

// Next waits until there is something to send and appends it to dst: one or more whole server-sent
// events, about 64 KiB at a time and never more than that and one message. An event "gap" gives the
// records that the journal does not have.
//
// io.EOF means that the subscription is over; an event "dropped" before it has given the reason.
// Any other error is ctx's.
func (s *Subscription) Next(ctx context.Context, dst []byte) ([]byte, error) {
	if s.over || s.closed {
		return dst, io.EOF
	}
	begin := len(dst)
	s.passed = 0
	dst, err := s.fill(ctx, dst)
	s.h.metrics.sent.Add(float64(s.passed))
	if len(dst) == begin {
		return dst, err
	}
	now := time.Now()
	s.beatAt = now.Add(s.h.o.Heartbeat)
	s.lingerTo = time.Time{}
	if s.cursor.valid && s.passed > 0 && len(dst)-begin < enough {
		s.lingerTo = now.Add(linger)
	}
	return dst, nil // an error of ctx comes again
}

// fill appends what there is to send, after waiting for it.
func (s *Subscription) fill(ctx context.Context, dst []byte) ([]byte, error) {
	if !s.begun {
		s.begun = true
		return s.appendID(append(dst, greeting...)), nil
	}
	if d := time.Until(s.lingerTo); d > 0 {
		if _, err := s.wait(ctx, nil, d); err != nil {
			return dst, err
		}
	}
	for begin := len(dst); ; {
		var changed <-chan struct{}
		var err error
		if s.cursor.valid {
			dst, changed = s.fromRing(dst)
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

// wait waits for changed (nil: for the time alone), and reports whether the time came first.
func (s *Subscription) wait(ctx context.Context, changed <-chan struct{}, d time.Duration) (late bool, err error) {
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

// fromRing appends what the ring has after the subscription's position. If there is nothing it
// returns the channel to wait for.
func (s *Subscription) fromRing(dst []byte) ([]byte, <-chan struct{}) {
	h := s.h
	for begin := len(dst); len(dst)-begin < enough; {
		h.mu.Lock()
		rewound, end := s.cursor.epoch != h.epoch, h.from
		n, ok := h.ring.take(s.cursor.next, s.taken[:])
		if !rewound && ok && n == 0 {
			s.pos = max(s.pos, h.applied)
			if h.changed == nil {
				h.changed = make(chan struct{})
			}
			changed := h.changed
			h.mu.Unlock()
			return dst, changed
		}
		h.mu.Unlock()
		switch {
		case rewound:
			s.cursor = cursor{} // the records in between are read from the journal
			if s.pos > end {
				dst = s.gap(dst, end+1, s.pos, journal.GapRewound)
			}
			return dst, nil
		case !ok && len(dst) > begin:
			return dst, nil // what was appended comes first
		case !ok:
			h.metrics.slow.Inc()
			return s.end(dst, "the client is too slow"), nil
		}
		dst = s.appendEntries(dst, n, begin)
		clear(s.taken[:n])
	}
	return dst, nil
}

// appendEntries appends the first n entries taken, until they are enough.
func (s *Subscription) appendEntries(dst []byte, n, begin int) []byte {
	for i := 0; i < n && len(dst)-begin < enough; i++ {
		e := &s.taken[i]
		s.cursor.next++
		switch {
		case e.seq <= s.pos: // was read from the journal
		case e.from != 0:
			dst = s.gap(dst, max(e.from, s.pos+1), e.seq, journal.GapLost)
		default:
			dst = s.message(dst, e)
		}
	}
	return dst
}

// message appends the readings of an entry that match, and goes on after it.
func (s *Subscription) message(dst []byte, e *entry) []byte {
	s.pos = e.seq
	dst, some := appendSelected(dst, e, &s.match)
	if some {
		s.told = e.seq
		s.passed++
	}
	return dst
}

// gap appends that records are missing. After a gap with the reason GapRewound the next record is
// from, otherwise the one after to.
func (s *Subscription) gap(dst []byte, from, to uint64, reason string) []byte {
	s.pos = to
	if reason == journal.GapRewound {
		s.pos = from - 1
	}
	s.h.metrics.gaps.Inc()
	return s.appendID(appendGap(dst, from, to, reason))
}

// end appends that the subscription is over.
func (s *Subscription) end(dst []byte, reason string) []byte {
	s.over = true
	return s.appendID(appendDropped(dst, reason, s.pos))
}

// appendID ends an event with the id of the subscription's position. The client shows nothing of an
// event that has nothing else, and remembers the id.
func (s *Subscription) appendID(dst []byte) []byte {
	s.told = s.pos
	return appendID(dst, s.pos)
}

// Close ends the subscription. It may be called again.
func (s *Subscription) Close() {
	if s.closed {
		return
	}
	s.closed = true
	s.timer.Stop()
	s.closeReader()
	s.h.leave()
}
