package relay

import (
	"fmt"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay/internal/spool"
)

// keptPatience is how long after a took line the next poll may come without a kept line.
const keptPatience = 30 * time.Second

// SpoolState is the state of a relay's spool.
type SpoolState struct {
	// ID is the spool's id on the wire: 8 hex digits.
	ID string
	// Waiting is how many records wait for the server; a record is what was collected at one
	// moment. Bytes is the space that the spool takes.
	Waiting int
	Bytes   int64
	// Collected counts the readings that the relay collected while no server polled, Recalled the
	// records that it handed over later, repetitions after a lost connection included.
	Collected, Recalled uint64
	// Dropped counts the readings that were dropped because the spool was full, since the spool was
	// made.
	Dropped uint64
	// Damaged counts the records that could not be read, and Failures how many times the disk
	// failed, since the start. LastError is the last failure's reason.
	Damaged, Failures uint64
	LastError         error
}

// handover gives the records of the spool to the server, each at least until a kept line names it.
// The protocol is in relaywire's package comment.
type handover struct {
	r     *Relay
	log   *spool.Log
	turns turns
	wake  chan struct{} // buffered by one: a turn may be earlier now
	ended chan struct{} // closed when collect has returned

	mu    sync.Mutex // guards the fields below; taken before Relay.mu and session.mu
	s     *session   // the session whose server takes records; nil if there is none
	ready bool       // the server has said recall: what it has is known
	said  bool       // the server knows that records wait
	last  uint64     // the newest record
	// run is the current run of took lines. Its records from unkept on are not kept yet; unkept is
	// above the run when there are none.
	run                 spool.Range
	unkept              uint64
	sent                time.Time   // the newest took line
	batch               spool.Range // what is under way of the last batch
	collected, recalled uint64
	saidFailure         onceAMinute
	failures            uint64 // that were logged
	saidDropped         onceAMinute
	dropped             uint64 // readings that were logged
}

func newHandover(r *Relay, o SpoolOptions) (*handover, error) {
	log, err := spool.Open(o.Dir, o.MaxBytes)
	if err != nil {
		return nil, err
	}
	return &handover{r: r, log: log, turns: turns{r: r, log: log, due: map[string]turn{}}, wake: make(chan struct{}, 1), ended: make(chan struct{})}, nil
}

// close waits for collect and closes the spool. It is called after the sessions have ended.
func (h *handover) close() error {
	<-h.ended
	if err := h.log.Close(); err != nil {
		return &Error{Op: "close", Subject: "Spool", Err: err}
	}
	return nil
}

func (h *handover) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *handover) state() SpoolState {
	st := h.log.State()
	h.mu.Lock()
	defer h.mu.Unlock()
	return SpoolState{
		ID: h.log.ID().String(), Waiting: st.Waiting, Bytes: st.Bytes, Collected: h.collected, Recalled: h.recalled,
		Dropped: st.Dropped, Damaged: st.Damaged, Failures: st.Failures, LastError: st.LastError,
	}
}

// collect collects what no server polls, until the relay is closed.
func (h *handover) collect() {
	defer close(h.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-h.wake:
		case <-h.r.ctx.Done():
			return
		}
		names, next := h.turns.next(time.Now())
		if len(names) > 0 {
			items := h.r.collect(h.r.ctx, names)
			h.mu.Lock()
			h.collected += uint64(len(items))
			h.wait(items)
			h.mu.Unlock()
		}
		timer.Reset(time.Until(next))
	}
}

// answer answers a poll of s. What was collected is in the spool before it is sent; if the session
// ends meanwhile, it waits there. So the collectors are given their time even then.
func (h *handover) answer(s *session, names []string) {
	if h.turns.polled(time.Now(), names) {
		h.poke()
	}
	items := h.r.collect(h.r.ctx, names)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.ctx.Err() != nil:
		h.wait(items)
	case h.s != s || len(items) == 0:
		s.got(items)
	case h.ready && (h.unkept > h.run.Last || h.last == h.run.Last):
		h.took(items)
	default:
		h.wait(items)
		s.got(nil)
		if h.ready && time.Since(h.sent) > keptPatience {
			// What is kept is said before the next poll. So the journal refused the end of a run
			// that is over, and no kept line will come; the next connection sorts it out.
			s.cancel(&Error{Op: "talk to", Subject: h.r.o.Address, Err: ErrSilent, Detail: "it does not say that it keeps what it polled"})
		}
	}
}

// took sends items as the next records of the run, or of a new one if other records came between.
// mu is held.
func (h *handover) took(items []relaywire.GotItem) {
	if h.last != h.run.Last {
		h.run = spool.Range{}
	}
	h.r.countPoll(len(items), false)
	h.sent = time.Now()
	h.append(items, true, func(r spool.Record) {
		if h.run.Len() == 0 {
			h.run.First, h.unkept = r.Seq, r.Seq
		}
		h.run.Last = r.Seq
		h.s.send(func(dst []byte) []byte {
			return fmt.Appendf(dst, "%v %d %d %s\n", relaywire.VerbTook, h.run.First, r.Seq, r.Items)
		})
	})
}

// wait puts items into the spool for later and tells the server. mu is held.
func (h *handover) wait(items []relaywire.GotItem) {
	h.append(items, false, func(spool.Record) {})
	h.announce()
}

// append puts items into the spool, as several records of one time if they are too many for one
// line. mu is held.
func (h *handover) append(items []relaywire.GotItem, out bool, each func(spool.Record)) {
	now := time.Now().UnixMilli()
	for len(items) > 0 {
		text, n := itemsText(items)
		if len(text) > 0 {
			h.last = h.log.Append(now, n, text, out)
			each(spool.Record{Seq: h.last, Time: now, Items: text})
		}
		items = items[n:]
	}
	st := h.log.State()
	if st.Failures > h.failures && h.saidFailure.may(time.Now()) {
		h.failures = st.Failures
		h.r.o.Logger.Warn("relay: the disk of the spool fails; readings wait in memory meanwhile", "error", st.LastError, "failures", st.Failures)
	}
	if st.Dropped > h.dropped && h.saidDropped.may(time.Now()) {
		h.dropped = st.Dropped
		h.r.o.Logger.Warn("relay: the spool is full; its oldest readings are dropped", "dropped", st.Dropped, "records waiting", st.Waiting)
	}
}

// itemsText returns the text of as many items as a line holds, whatever the numbers before them.
func itemsText(items []relaywire.GotItem) (text []byte, n int) {
	const longest = 1 << 62
	line, n := relaywire.AppendPast(nil, relaywire.Record{First: longest, Seq: longest}, longest, items)
	_, _, text, _ = relaywire.ParsePast(relaywire.Parse(line).Args) // nil if no item can be sent
	return text, n
}
