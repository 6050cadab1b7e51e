package link

import (
	"errors"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// resume decides at which event the edge begins, and tells the hub. The hub said what it has.
//
// Usually the journal has the hub's newest event under the same number, and goes on after it. If
// retention has dropped it, the journal goes on with the first event that it holds, and the reader
// reports the gap. Otherwise this is not the history that the hub has: the edge was restored from a
// backup or lost its end, and has used numbers again; or its journal is a new one. What the hub has
// stays. The edge goes on after the last event that both have, which a binary search finds: histories
// that part do not meet again. Events that are only missing here, in damaged blocks, are no history of
// their own.
func (s *handover) resume(w welcome) (from uint64, err error) {
	j := s.u.o.Journal
	s.has = w.Has
	st, err := j.State(s.ctx)
	if err != nil {
		return 0, err
	}
	b := begin{From: max(st.FirstSeq, 1)}
	same := w.Journal == j.Identity() || w.Journal == ""
	switch has := w.Has; {
	case has.Origin == 0: // nothing
	case !same:
		b.Anew, b.Reason = true, "the edge has another journal: it was set aside and begun again, or another Pulse has this name now"
	case has.Origin+1 < st.FirstSeq, has.Origin+1 == st.FirstSeq && st.LastSeq >= has.Origin:
		b.From = has.Origin + 1 // the reader tells what is missing
	default:
		last := min(st.LastSeq, has.Origin)
		shared, err := s.shared(st.FirstSeq, last)
		if err != nil {
			return 0, err
		}
		// What is missing here up to last the hub has, or was told of.
		own, ok, err := s.from(max(shared+1, st.FirstSeq), last)
		if err != nil {
			return 0, err
		}
		b.From = last + 1
		if ok {
			b.From = own.Origin
		}
		if b.From <= has.Origin {
			b.Anew, b.Reason = true, "the edge's journal does not have what the hub got from it: it was restored from a backup, or lost its end"
		}
	}
	return b.From, s.c.sendJSON(frameBegin, b)
}

// shared returns the highest number from first to last up to which this journal and the hub's have the
// same events, but for those that are missing here. It is 0 if there is none.
func (s *handover) shared(first, last uint64) (best uint64, err error) {
	for at := last; first <= last && last > 0; at = first + (last-first)/2 { // mostly it is the last
		hub, err := s.find(at)
		if err != nil {
			return 0, err
		}
		own, ok, err := s.from(max(hub.Origin, 1), last)
		if err != nil {
			return 0, err
		}
		if hub.Origin > 0 && ok && own.Origin > hub.Origin { // the hub's is missing here; the one behind it tells
			if hub, err = s.find(own.Origin); err != nil {
				return 0, err
			}
		}
		if ok && own == hub {
			best = max(at, own.Origin)
			first = best + 1
		} else {
			last = at - 1
		}
	}
	return best, nil
}

// find returns the hub's last event up to a number; its Origin is 0 if there is none.
func (s *handover) find(origin uint64) (e event, err error) {
	if origin >= s.has.Origin {
		return s.has, nil
	}
	if err := s.c.sendJSON(frameFind, find{origin}); err != nil {
		return event{}, err
	}
	err = s.receive(frameFound, &e)
	return e, err
}

// from returns the first event of this journal from first to last.
func (s *handover) from(first, last uint64) (own event, ok bool, err error) {
	done := errors.New("found")
	err = s.u.o.Journal.Range(s.ctx, journal.Span{First: first, Last: last}, func(records []journal.Record, _ *journal.GapError) error {
		for i := range records {
			switch r := &records[i]; {
			case r.Event != nil:
				own = event{r.Seq, r.Event.Relay, r.Event.Time}
				return done
			case r.Relay != nil && r.Relay.Kind != codec.RelaySkipped:
				own = event{r.Seq, r.Relay.Relay, r.Relay.Time}
				return done
			}
		}
		return nil
	})
	if err == done {
		return own, true, nil
	}
	return event{}, false, err
}
