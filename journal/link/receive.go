package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nanopack/pulse/journal"
)

// late is how old an event may be, by the edge's clock, when the edge sends it. An older one is from
// the past, as from a relay's spool: what is about now passes it over.
const late = 10 * time.Second

// begin takes the number at which the edge begins. What people should know of it is kept first.
func (s *session) begin(b begin) error {
	if b.From == 0 || s.next != 0 {
		return fmt.Errorf("the edge begins at event %d, after it began at %d", b.From, s.next)
	}
	s.next = b.From
	h := s.hub
	h.mu.Lock()
	st := &s.edge.stored
	var told *Begun
	st.Histories = s.known
	switch n := len(s.known); {
	case n == 0:
		st.Histories = []history{{Start: 1, At: b.From, Journal: s.journal}}
	case b.Of == s.known[n-1].Start && b.From == s.known[n-1].Tip.Origin+1:
		st.Histories[n-1].Journal = s.journal
	default:
		add := Begun{h.o.Now().UTC(), b.From, s.known[n-1].Tip.Origin, b.Reason}
		if st.addBegun(add) {
			told = &add
		}
		st.Histories = append(st.Histories, history{Start: h.o.Journal.LastSeq() + 1, At: b.From, From: b.Of, Journal: s.journal})
		st.Histories = st.Histories[max(0, len(st.Histories)-keepHistories):]
	}
	copied := st.clone()
	h.mu.Unlock()
	if told != nil {
		h.m.begun.Inc()
		h.log.Warn("an edge began another history; what came before stays", "edge", s.edge.name, "at", told.At, "kept", told.Kept, "reason", told.Reason)
	}
	if err := h.registry.save(s.edge.name, copied); err != nil {
		return s.cannot(err)
	}
	return nil
}

// events appends a batch, and confirms it.
func (s *session) events(ctx context.Context, payload []byte) error {
	h := s.hub
	records, now, err := s.batch.read(payload)
	if err != nil {
		return &refusedError{refusal{fmt.Sprintf("the hub (release %s) cannot read what this edge sends: %v; upgrade the hub", h.o.Release, err), refusedPause.Milliseconds()}}
	}
	if len(records) == 0 || records[0].Seq != s.next {
		return fmt.Errorf("a batch of the edge does not begin with event %d", s.next)
	}
	for i := range records {
		r := &records[i]
		if e := r.Event; e != nil {
			e.Edge, e.Origin = s.edge.name, int64(r.Seq)
			e.Past = e.Past || now-e.Time > int64(late)
		} else {
			r.Relay.Edge, r.Relay.Origin = s.edge.name, int64(r.Seq)
		}
	}
	for len(records) > 0 {
		n, err := h.o.Journal.AppendInOrder(ctx, records)
		s.stored(records[:n])
		records = records[n:]
		switch {
		case err != nil && len(records) > 0 && journal.Unfit(err):
			if err := s.gap(gap{records[0].Seq, records[0].Seq, "the hub cannot store it: " + err.Error(), true}); err != nil {
				return err
			}
			records = records[1:]
		case err != nil && ctx.Err() != nil:
			return errors.New("the hub stops")
		case err != nil:
			return s.cannot(err)
		}
	}
	return s.c.sendJSON(frameKept, kept{s.next - 1})
}

// stored notes records that are durable.
func (s *session) stored(records []journal.Record) {
	if len(records) == 0 {
		return
	}
	last := records[len(records)-1].Seq
	s.next = last + 1
	s.hub.m.events.WithLabelValues(s.edge.name).Add(float64(len(records)))
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.edge.has = last
	s.edge.stored.Last = max(s.edge.stored.Last, last)
	s.edge.events += uint64(len(records))
}

// gap notes numbers that will never come.
func (s *session) gap(g gap) error {
	if g.From != s.next || g.To < g.From {
		return fmt.Errorf("the edge leaves out events %d to %d, and %d comes next", g.From, g.To, s.next)
	}
	s.next = g.To + 1
	if !g.Told {
		return nil
	}
	h := s.hub
	h.mu.Lock()
	isNew := s.edge.stored.addGap(Gap{g.From, g.To, g.To - g.From + 1, g.Reason, h.o.Now().UTC()})
	copied := s.edge.stored.clone()
	h.mu.Unlock()
	if !isNew {
		return nil
	}
	h.m.missing.WithLabelValues(s.edge.name).Add(float64(g.To - g.From + 1))
	h.log.Error("events of an edge will never come", "edge", s.edge.name, "from", g.From, "to", g.To, "events", g.To-g.From+1, "reason", g.Reason)
	if err := h.registry.save(s.edge.name, copied); err != nil {
		return s.cannot(err)
	}
	return nil
}
