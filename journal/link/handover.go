package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// linger is how long events wait for others after a batch that was not full.
	linger = 20 * time.Millisecond
	// maxAsked bounds how many requests of the hub are under way.
	maxAsked = 16
)

// handover is one connection of an edge: what the hub lacks, and then what comes.
type handover struct {
	u   *Uplink
	c   *conn
	ctx context.Context // ends with the connection
	wg  sync.WaitGroup

	batch  batch
	since  time.Time // when the batch got its first record
	next   uint64    // the number that comes next
	leaves gap       // what is left out without a word, From 0 if nothing is

	asked chan struct{} // has one for each request of the hub that is under way
}

// run hands over until the connection ends, and returns why.
func (s *handover) run(g greeting) error {
	u := s.u
	if g.Protocol < oldestProtocol {
		return &refusedError{refusal{fmt.Sprintf("this edge (release %s) needs a hub that speaks version %d of the link; the hub (release %s) speaks %d: upgrade the hub",
			u.o.Release, oldestProtocol, g.Release, g.Protocol), refusedPause.Milliseconds()}}
	}
	u.mu.Lock()
	u.status.HubRelease = g.Release
	token := u.token
	u.mu.Unlock()
	w := welcome{}
	err := s.c.sendJSON(frameHello, hello{Protocol: protocol, Oldest: oldestProtocol, Release: u.o.Release,
		Edge: u.o.Edge, Token: token, Instance: u.instance, Journal: u.o.Journal.Identity()})
	if err == nil {
		err = s.receive(frameWelcome, &w)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(s.ctx) // the cause is the first failure
	defer cancel(nil)
	s.wg.Go(func() {
		every(ctx, func() bool {
			err := s.c.sendJSON(framePing, ping{u.o.Now().UnixNano(), u.o.Journal.LastSeq()})
			if err != nil {
				cancel(err)
			}
			return err == nil
		})
	})
	from, err := s.resume(w)
	if err != nil {
		return err
	}
	reader, err := u.o.Journal.ReadFrom(from)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }() // it never fails
	s.next = from
	u.connected(from)
	s.asked = make(chan struct{}, maxAsked)
	s.wg.Go(func() { cancel(s.listen(ctx)) })
	cancel(s.send(ctx, reader))
	_ = s.c.Close() // the receiver sees it
	s.wg.Wait()
	return context.Cause(ctx)
}

// receive waits for a frame of the kind. Pings, and what the hub tells, may come before it.
func (s *handover) receive(kind byte, v any) error {
	for {
		got, payload, err := s.c.receive()
		if err != nil {
			return err
		}
		switch got {
		case kind:
			return json.Unmarshal(payload, v)
		case frameRefusal:
			var r refusal
			if err := json.Unmarshal(payload, &r); err != nil {
				return err
			}
			return &refusedError{r}
		case framePing:
		case frameNotice:
			if err := s.noticed(payload); err != nil {
				return err
			}
		default:
			return fmt.Errorf("a frame of type %q instead of %q", got, kind)
		}
	}
}

// connected notes that the hub is there and gets the events from a number on.
func (u *Uplink) connected(from uint64) {
	u.set(StateConnected, "")
	u.m.connections.Inc()
	u.mu.Lock()
	u.status.Known, u.status.HubHas = true, from-1
	u.mu.Unlock()
	u.log.Info("the hub is connected", "from", from, "last", u.o.Journal.LastSeq())
}

// send sends records as they come.
func (s *handover) send(ctx context.Context, reader *journal.Reader) error {
	for {
		records, err := reader.Read(ctx, batchEvents)
		var missing *journal.GapError
		switch {
		case errors.As(err, &missing) && missing.Reason != journal.GapRewound:
			if err := s.miss(missing.From, missing.To, missing.Reason); err != nil {
				return err
			}
			continue
		case err != nil:
			return err // also a journal that lost its end: the next connection finds what the hub has
		}
		for i := range records {
			if err := s.add(&records[i]); err != nil {
				return err
			}
		}
		behind := s.next <= s.u.o.Journal.LastSeq()
		if behind && time.Since(s.since) < linger {
			continue // a larger batch costs less
		}
		if err := s.flush(); err != nil {
			return err
		}
		if behind {
			continue
		}
		select {
		case <-time.After(linger):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add takes a record into the batch, and sends the batch when it is full.
func (s *handover) add(rec *journal.Record) error {
	switch {
	case rec.Err != nil:
		return s.miss(rec.Seq, rec.Seq, "it cannot be read: "+rec.Err.Error())
	case rec.Relay != nil && (rec.Relay.Kind == codec.RelaySkipped || rec.Relay.Edge != ""), rec.Event != nil && rec.Event.Edge != "":
		return s.leaveOut(rec.Seq)
	}
	if err := s.flushLeft(); err != nil {
		return err
	}
	if s.batch.count == 0 {
		s.since = time.Now()
	}
	if err := s.batch.add(rec); err != nil {
		return s.miss(rec.Seq, rec.Seq, "it cannot be sent: "+err.Error())
	}
	s.next = rec.Seq + 1
	if s.batch.full() {
		return s.flush()
	}
	return nil
}

// flush sends what was taken.
func (s *handover) flush() error {
	if err := s.flushLeft(); err != nil {
		return err
	}
	if s.batch.count == 0 {
		return nil
	}
	return s.c.send(frameEvents, s.batch.take(s.u.o.Now().UnixNano()))
}

// leaveOut notes a number that is no event of this edge's relays.
func (s *handover) leaveOut(seq uint64) error {
	if s.leaves.From == 0 {
		if s.batch.count > 0 {
			if err := s.flush(); err != nil {
				return err
			}
		}
		s.leaves = gap{From: seq, Reason: "no events of this edge's relays"}
	}
	s.leaves.To, s.next = seq, seq+1
	return nil
}

func (s *handover) flushLeft() error {
	if s.leaves.From == 0 {
		return nil
	}
	g := s.leaves
	s.leaves = gap{}
	return s.c.sendJSON(frameGap, g)
}

// miss tells the hub of events that it will never get.
func (s *handover) miss(from, to uint64, reason string) error {
	if err := s.flush(); err != nil {
		return err
	}
	s.next = to + 1
	u := s.u
	u.mu.Lock()
	known := stored{Gaps: u.status.Gaps}
	added := known.addGap(Gap{from, to, to - from + 1, reason, u.o.Now().UTC()})
	u.status.Gaps = known.Gaps
	u.mu.Unlock()
	if added {
		u.m.missing.Add(float64(to - from + 1))
		u.log.Error("the hub will never get some events", "from", from, "to", to, "events", to-from+1, "reason", reason)
	}
	return s.c.sendJSON(frameGap, gap{from, to, reason, true})
}

// listen takes what the hub sends, until the connection ends.
func (s *handover) listen(ctx context.Context) error {
	for {
		kind, payload, err := s.c.receive()
		if err != nil {
			return err
		}
		switch kind {
		case frameKept:
			var k kept
			if err := json.Unmarshal(payload, &k); err != nil {
				return err
			}
			s.kept(k.To)
		case frameNotice:
			if err := s.noticed(payload); err != nil {
				return err
			}
		case frameAsk:
			var a ask
			if err := json.Unmarshal(payload, &a); err != nil {
				return err
			}
			s.answer(ctx, a)
		case frameRefusal:
			var r refusal
			if err := json.Unmarshal(payload, &r); err != nil {
				return err
			}
			return &refusedError{r}
		}
	}
}

func (s *handover) kept(to uint64) {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	if has := &s.u.status.HubHas; to > *has {
		s.u.m.events.Add(float64(to - *has))
		*has = to
	}
}

func (s *handover) noticed(payload []byte) error {
	var n notice
	if err := json.Unmarshal(payload, &n); err != nil {
		return err
	}
	s.u.mu.Lock()
	s.u.notice = remark{n.Text, s.u.o.Now()}
	s.u.mu.Unlock()
	s.u.log.WarnRarely("notice", "the hub says: "+n.Text)
	return nil
}

// answer does what the hub asks for, beside everything else.
func (s *handover) answer(ctx context.Context, a ask) {
	reply := func(r answer) {
		r.ID = a.ID
		_ = s.c.sendJSON(frameAnswer, r) // the hub sees the end of the link
	}
	select {
	case s.asked <- struct{}{}:
	default:
		reply(answer{Error: "too much is asked of this edge at once; try again"})
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.asked }()
		body, err := s.u.o.Ask(ctx, a.What, a.Body)
		if err == nil {
			reply(answer{Body: body})
			return
		}
		r := answer{Error: err.Error()}
		if refused, ok := errors.AsType[*Refused](err); ok {
			r.Kind = refused.Kind
		}
		reply(r)
	})
}
