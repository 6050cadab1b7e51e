package link

import (
	"errors"
	"slices"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// resume decides at which event the edge begins, and tells the hub. The hub said what it has.
//
// Usually the journal has the hub's newest event under the same number, and goes on after it. If
// retention has dropped it, the journal goes on with the first event that it holds, and the reader
// reports the gap. Otherwise this is not the history that the hub had last. It may be an earlier one,
// when a copy of this Pulse or another of its name was connected in between: then its last event is
// here. Or the edge was restored from a backup or lost its end, and has used numbers again: then it goes
// on after the last event that both have, which a binary search finds, because histories that part do
// not meet again. Or it is a new journal. What the hub has stays. Events that are only missing here, in
// damaged blocks, are no history of their own.
func (s *handover) resume(w welcome) (from uint64, err error) {
	st, err := s.u.o.Journal.State(s.ctx)
	if err != nil {
		return 0, err
	}
	b := begin{From: max(st.FirstSeq, 1)}
	if n := len(w.Histories); n > 0 {
		if b, err = s.goOn(w.Histories, st); err != nil {
			return 0, err
		}
		if newest := w.Histories[n-1]; b.Of == newest.Name && b.From == newest.Tip.Origin+1 {
			b.Reason = ""
		}
	}
	return b.From, s.c.sendJSON(frameBegin, b)
}

// goOn finds the history to go on from, and where.
func (s *handover) goOn(histories []told, st journal.State) (b begin, err error) {
	// The last event of one of them is here, or was.
	var tip uint64
	for _, h := range slices.Backward(histories) {
		was := h.Tip.Origin < st.FirstSeq && s.mine(h) // retention dropped it
		if h.Tip.Origin <= tip || h.Tip.Origin > st.LastSeq {
			continue
		}
		if !was {
			own, ok, err := s.from(h.Tip.Origin, h.Tip.Origin)
			if err != nil {
				return b, err
			}
			if !ok || own != h.Tip {
				continue
			}
		}
		tip = h.Tip.Origin
		b = begin{tip + 1, h.Name, "this history was here before: a copy of this edge, or another Pulse of its name, was connected in between"}
	}
	if tip > 0 {
		return b, nil
	}
	// The beginning of one of them is here.
	b = begin{max(st.FirstSeq, 1), 0, "the edge has another journal: it was set aside and begun again, or another Pulse has this name now"}
	var most uint64
	for _, h := range slices.Backward(histories) {
		if !s.mine(h) {
			continue
		}
		last := min(st.LastSeq, h.Tip.Origin)
		shared, err := s.shared(h, st.FirstSeq, last)
		if err != nil {
			return b, err
		}
		if b.Of > 0 && shared <= most {
			continue
		}
		// What is missing here up to last the hub has, or was told of.
		own, ok, err := s.from(max(shared+1, st.FirstSeq), last)
		if err != nil {
			return b, err
		}
		most = shared
		b = begin{last + 1, h.Name, "the edge's journal does not have what the hub got from it: it was restored from a backup, or lost its end"}
		if ok {
			b.From = own.Origin
		}
	}
	return b, nil
}

// mine reports whether a history may be of this journal.
func (s *handover) mine(h told) bool {
	return h.Journal == "" || h.Journal == s.u.o.Journal.Identity()
}

// shared returns the highest number from first to last up to which this journal and a history have the
// same events, but for those that are missing here. It is 0 if there is none.
func (s *handover) shared(h told, first, last uint64) (best uint64, err error) {
	for at := last; first <= last && last > 0; at = first + (last-first)/2 { // mostly it is the last
		hub, err := s.find(h, at)
		if err != nil {
			return 0, err
		}
		own, ok, err := s.from(max(hub.Origin, 1), last)
		if err != nil {
			return 0, err
		}
		if hub.Origin > 0 && ok && own.Origin > hub.Origin { // the hub's is missing here; the one behind it tells
			if hub, err = s.find(h, own.Origin); err != nil {
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

// find returns the last event of a history up to a number; its Origin is 0 if there is none.
func (s *handover) find(h told, origin uint64) (e event, err error) {
	if origin >= h.Tip.Origin {
		return h.Tip, nil
	}
	if err := s.c.sendJSON(frameFind, find{h.Name, origin}); err != nil {
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
