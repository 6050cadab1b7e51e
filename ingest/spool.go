package ingest

import (
	"cmp"
	"errors"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxSkew is how far a relay's clock may be off before the times of its records are corrected:
	// less may be the time that a line took.
	maxSkew = 2 * time.Second
	// recallRecords is how many records a relay is asked for at once: few, because its live answers
	// wait behind them.
	recallRecords = 20
	// recallAgain is when a relay is asked again, or has to connect again, whose record the journal did
	// not take.
	recallAgain = 10 * time.Second
)

// spool is what is known of a relay's spool, over all of its connections.
type spool struct {
	// turn holds one element while a record goes to the journal, so that a newer connection waits for
	// what the older one still brings there. It comes before relay.mu.
	turn chan struct{}
	// known is whether took and past are what the journal has: the ranges of records that its newest
	// events name. turn guards them.
	known      bool
	took, past codec.Spool

	// said is what the relay said last, confirm the records that it will be told of with the next
	// poll, or with the answer to its ping. relay.mu guards them.
	said    relaywire.SpoolState
	confirm codec.Spool
}

// spoolSession is what one connection has said of the relay's spool.
type spoolSession struct {
	id   relaywire.SpoolID
	skew int64 // what is added to the relay's times, in ns
	// refusedAt is when the journal did not take a record of a took line; zero if it took all. What
	// follows is passed over, because an event names a range of records that are all there.
	refusedAt time.Time
	// batch is what the journal has taken of the batch that is being recalled. refused is whether it
	// did not take one of its records: those after it are passed over.
	batch   codec.Spool
	refused bool
}

// tellSpool takes a spool line. It returns false when the session is to end.
func (s *session) tellSpool(r *relay, args []byte) bool {
	state, err := relaywire.ParseSpool(args)
	if err != nil {
		return s.complain("spool: " + err.Error())
	}
	sp := r.spoolSaid(s.conn, state)
	if sp == nil {
		return true // replaced: the session ends in a moment
	}
	if s.spool == nil || s.spool.id != state.ID {
		return s.beginSpool(r, sp, state)
	}
	batch, refused := s.spool.batch, s.spool.refused
	s.spool.batch, s.spool.refused = codec.Spool{}, false
	if batch.Seq != 0 && !s.reply(string(appendKept(nil, batch))) {
		return false
	}
	switch {
	case refused:
		s.env.recalls.later(r, s.conn)
	case state.Waiting > 0:
		s.env.recalls.want(r, s.conn)
	default:
		s.env.recalls.leave(r, s.conn)
	}
	return true
}

// beginSpool answers the first spool line of a connection: which records the journal has.
func (s *session) beginSpool(r *relay, sp *spool, state relaywire.SpoolState) bool {
	s.spool = &spoolSession{id: state.ID}
	if skew := s.env.Now().UnixMilli() - state.Now; time.Duration(max(skew, -skew))*time.Millisecond > maxSkew {
		s.spool.skew = skew * int64(time.Millisecond)
	}
	sp.turn <- struct{}{}
	defer func() { <-sp.turn }()
	if !sp.known {
		took, past, err := s.env.Journal.Spooled(s.env.appends, r.id)
		if err != nil {
			s.env.log.WarnRarely("spooled", "the journal does not say what it has of a relay's spool", "relay", r.id, "error", err)
			s.end(endJournal, "the journal does not answer: connect again")
			return false
		}
		sp.known, sp.took, sp.past = true, took, past
	}
	var lines []byte
	for _, has := range []codec.Spool{sp.took, sp.past} {
		if has.Seq != 0 && has.ID == uint32(state.ID) {
			lines = appendKept(lines, has)
		}
	}
	if !s.reply(string(lines)) {
		return false
	}
	switch {
	case state.Waiting == 0:
		s.env.recalls.leave(r, nil)
	case s.env.recalls.want(r, s.conn):
		return true // it has been asked
	}
	return s.reply(string(relaywire.AppendRecall(nil, 0)))
}

// record takes a took line or a past line. It returns false when the session is to end.
func (s *session) record(r *relay, msg relaywire.Message) bool {
	var ms int64
	past := msg.Verb == relaywire.VerbPast
	rec, items, err := relaywire.ParseTook(msg.Args)
	if past {
		rec, ms, items, err = relaywire.ParsePast(msg.Args)
	}
	if err != nil || s.spool == nil {
		return s.complain(msg.Verb.String() + ": " + cmp.Or(err, errNoSpool).Error())
	}
	from := origin{record: codec.Spool{ID: uint32(s.spool.id), First: int64(rec.First), Seq: int64(rec.Seq)}}
	if past {
		from.taken = s.spool.time(ms, s.env.Now().UnixNano())
	}
	sp := r.spool // set by this session's spool line, and never changed
	sp.turn <- struct{}{}
	defer func() { <-sp.turn }()
	tooOld := past && s.env.Now().Sub(time.Unix(0, from.taken)) > s.env.PastFor
	switch at := s.spool.refusedAt; {
	case !sp.known || past && s.spool.refused:
		return true
	case !past && !at.IsZero():
		r.answeredOver(s.conn)
		if time.Since(at) < recallAgain {
			return true
		}
		s.end(endJournal, "the journal did not take a record: connect again")
		return false
	case covers(sp.took, from.record) || covers(sp.past, from.record) || tooOld:
		if tooOld {
			r.rejectAll(items, rejectTooOld)
		}
		if past {
			s.spool.batch = from.record
		} else {
			r.answeredOver(s.conn)
		}
		return true
	}
	tooManySeries, err := r.take(s.conn, items, from)
	switch {
	case errors.Is(err, errReplaced):
		return true
	case errors.Is(err, journal.ErrUnknown), err != nil && s.env.appends.Err() != nil:
		sp.known = false
		s.end(endJournal, "the journal did not say whether it has a record: connect again")
		return false
	case err != nil && past:
		s.spool.refused = true
		return true
	case err != nil:
		s.spool.refusedAt = time.Now()
		return true
	case past:
		sp.past, s.spool.batch = from.record, from.record
	default:
		sp.took = from.record
		r.confirm(s.conn, from.record)
	}
	if tooManySeries {
		s.tooManySeries(r)
	}
	return true
}

var errNoSpool = errors.New("say spool first")

// time is when a record was taken, in ns: corrected, and not from the future.
func (s *spoolSession) time(ms, now int64) int64 {
	if ms > now/int64(time.Millisecond)+int64(24*time.Hour/time.Millisecond) {
		return now // and no overflow
	}
	return max(1, min(ms*int64(time.Millisecond)+s.skew, now))
}

// covers reports whether the journal has the record, by what one of its events says.
func covers(has, record codec.Spool) bool {
	return has.ID == record.ID && has.First <= record.Seq && record.Seq <= has.Seq
}

func appendKept(dst []byte, s codec.Spool) []byte {
	return relaywire.AppendKept(dst, relaywire.SpoolID(s.ID), relaywire.Record{First: uint64(s.First), Seq: uint64(s.Seq)})
}

// spoolSaid notes what the relay said of its spool over c. It returns nil when c has been replaced.
func (r *relay) spoolSaid(c *conn, state relaywire.SpoolState) *spool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		return nil
	}
	if r.spool == nil {
		r.spool = &spool{turn: make(chan struct{}, 1)}
	}
	said := &r.spool.said
	before := said.Dropped
	if said.ID != state.ID {
		before = 0
	}
	if state.Dropped > before {
		r.env.m.spoolDropped.Add(float64(state.Dropped - before))
		r.env.log.WarnRarely("spool dropped", "a relay's spool was full: its oldest readings are lost", "relay", r.id,
			"readings", state.Dropped-before)
	}
	r.env.m.spoolWaiting.Add(float64(state.Waiting) - float64(said.Waiting))
	*said = state
	return r.spool
}

// spoolGone forgets what a connection that has ended said of what waits. It needs mu.
func (r *relay) spoolGone() {
	if r.spool != nil {
		r.env.m.spoolWaiting.Sub(float64(r.spool.said.Waiting))
		r.spool.said.Waiting, r.spool.confirm = 0, codec.Spool{}
	}
}

// confirm has the relay told with the next poll that the journal has the records.
func (r *relay) confirm(c *conn, records codec.Spool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == c {
		r.spool.confirm = records
	}
}

// answeredOver notes an answer that came over c and is passed over.
func (r *relay) answeredOver(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == c {
		r.answered()
	}
}

// kept is appendKept for a goroutine that does not have mu: a line, or "" for most relays.
func (r *relay) kept() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spool == nil {
		return ""
	}
	return string(r.appendKept(nil))
}

// appendKept appends what the relay is still to be told of its spool. It needs mu.
func (r *relay) appendKept(dst []byte) []byte {
	if r.spool == nil || r.spool.confirm.Seq == 0 {
		return dst
	}
	dst = appendKept(dst, r.spool.confirm)
	r.spool.confirm = codec.Spool{}
	return dst
}
