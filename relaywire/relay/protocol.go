package relay

import (
	"fmt"
	"math"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/internal/spool"
)

// hear handles what the server says about the spool. Lines that cannot be read are ignored, because
// the server could do nothing with a complaint.
func (h *handover) hear(s *session, m relaywire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case m.Verb == relaywire.VerbTakes:
		for word := range relaywire.Names(m.Args) {
			if string(word) == relaywire.TakesPast && h.s != s {
				h.greet(s)
			}
		}
	case h.s != s:
		// A server that did not say takes past.
	case m.Verb == relaywire.VerbEvery:
		if d, err := relaywire.ParseEvery(m.Args); err == nil {
			h.log.SetInterval(d)
			h.poke()
		}
	case m.Verb == relaywire.VerbKept:
		if id, r, err := relaywire.ParseKept(m.Args); err == nil && id == h.log.ID() {
			h.kept(spool.Range{First: r.First, Last: r.Seq})
		}
	case m.Verb == relaywire.VerbRecall:
		if n, err := relaywire.ParseRecall(m.Args); err == nil {
			h.recall(n)
		}
	}
}

// greet begins with a server that takes records. Whatever was sent on other connections waits, until
// the kept lines that come next say which of it the server has. mu is held, as in the methods below.
func (h *handover) greet(s *session) {
	h.s, h.ready = s, false
	h.run, h.unkept, h.batch = spool.Range{}, 1, spool.Range{}
	h.log.Return(spool.Range{First: 1, Last: math.MaxUint64})
	if st := h.log.State(); st.Waiting > 1 { // one alone is the answer to a poll that broke off
		h.r.o.Logger.Info("relay: hands over what waited in the spool", "records", st.Waiting, "readings ever dropped", st.Dropped)
	}
	h.s.send(h.say)
}

// leave ends what greet began.
func (h *handover) leave(s *session) {
	h.turns.disconnected()
	h.poke()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.s == s {
		h.s = nil
	}
}

// kept forgets r. What was sent before r, of the same run or batch, and is not kept was refused by
// the journal for now: it waits.
func (h *handover) kept(r spool.Range) {
	h.log.Keep(r)
	if r.First <= h.run.Last && r.Last >= h.unkept {
		if r.First > h.unkept {
			h.log.Return(spool.Range{First: h.unkept, Last: r.First - 1})
			h.run.First = r.First
			defer h.announce()
		}
		h.unkept = r.Last + 1
	}
	if r.First <= h.batch.Last && r.Last >= h.batch.First {
		h.batch.First = r.Last + 1
	}
}

// recall hands over the newest n records that wait. What is not kept of the last batch waits again.
func (h *handover) recall(n int) {
	h.ready = true
	if n == 0 {
		h.announce()
		return
	}
	h.log.Return(h.batch)
	h.batch = spool.Range{}
	records := h.log.Newest(n)
	if len(records) > 0 {
		h.batch = spool.Range{First: records[0].Seq, Last: records[len(records)-1].Seq}
		h.recalled += uint64(len(records))
	}
	h.s.send(func(dst []byte) []byte {
		for _, r := range records {
			dst = fmt.Appendf(dst, "%v %d %d %d %s\n", relaywire.VerbPast, h.batch.First, r.Seq, r.Time, r.Items)
		}
		return h.say(dst)
	})
}

// announce says spool when records wait and the server does not know of any. If it does, it recalls
// them when it likes, and a spool line that crosses its recall would make two of it: the second one
// would have what the first one brings handed over again.
func (h *handover) announce() {
	if h.s != nil && h.ready && !h.said && h.log.State().Waiting > 0 {
		h.s.send(h.say)
	}
}

// say appends a spool line. The batch that ends with it counts as waiting until it is kept, so that
// the server always recalls once more.
func (h *handover) say(dst []byte) []byte {
	st := h.log.State()
	waiting := st.Waiting + h.batch.Len()
	h.said = waiting > 0
	return relaywire.AppendSpool(dst, relaywire.SpoolState{ID: h.log.ID(), Waiting: uint64(waiting), Dropped: st.Dropped, Now: time.Now().UnixMilli()})
}
