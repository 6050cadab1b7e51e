package link

import (
	"github.com/nanopack/pulse/journal"
)

// resume decides at which event the edge begins, and tells the hub. The hub said what it has.
//
// Usually the journal has the hub's newest event under the same number, and goes on after it. If
// retention has dropped it, the journal goes on with the first event that it holds, and the reader
// reports the gap. Otherwise this is not the history that the hub has: the edge was restored from a
// backup or lost its end, and has used numbers again; or its journal is a new one. What the hub has
// stays. The edge goes on after the last event that both have, which a binary search finds: histories
// that part do not meet again.
func (s *handover) resume(w welcome) (from uint64, err error) {
	j := s.u.o.Journal
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
		equal := false
		if has.Origin <= st.LastSeq {
			if equal, err = s.isHere(has); err != nil {
				return 0, err
			}
		}
		if equal {
			b.From = has.Origin + 1
			break
		}
		shared, err := s.shared(st.FirstSeq, min(st.LastSeq, has.Origin))
		if err != nil {
			return 0, err
		}
		if shared > 0 {
			b.From = shared + 1
		}
		b.Anew, b.Reason = true, "the edge's journal does not have what the hub got from it: it was restored from a backup, or lost its end"
	}
	return b.From, s.c.sendJSON(frameBegin, b)
}

// shared returns the highest number from first to last up to which this journal and the hub's have the
// same events, 0 if there is none.
func (s *handover) shared(first, last uint64) (uint64, error) {
	best := uint64(0)
	for first <= last && last > 0 {
		middle := first + (last-first)/2
		if err := s.c.sendJSON(frameFind, find{middle}); err != nil {
			return 0, err
		}
		var e event
		if err := s.receive(frameFound, &e); err != nil {
			return 0, err
		}
		here := false
		if e.Origin > 0 {
			var err error
			if here, err = s.isHere(e); err != nil {
				return 0, err
			}
		}
		if here {
			best, first = middle, middle+1
		} else {
			last = middle - 1
		}
	}
	return best, nil
}

// isHere reports whether the journal has the event under its number.
func (s *handover) isHere(e event) (found bool, err error) {
	err = s.u.o.Journal.Range(s.ctx, journal.Span{First: e.Origin, Last: e.Origin}, func(records []journal.Record, _ *journal.GapError) error {
		for i := range records {
			switch r := &records[i]; {
			case r.Seq != e.Origin:
			case r.Event != nil:
				found = r.Event.Relay == e.Relay && r.Event.Time == e.Time
			case r.Relay != nil:
				found = r.Relay.Relay == e.Relay && r.Relay.Time == e.Time
			}
		}
		return nil
	})
	return found, err
}
