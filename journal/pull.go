package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A request asks for this much at a time; it is what a reader that is not read holds in memory.
	pullEvents = 2048
	pullBytes  = 8 << 20
	// A request ends after pullExpires and is made again. The server sends a heartbeat when nothing
	// comes; two that stay out mean that the consumer is gone.
	pullExpires   = 30 * time.Second
	pullHeartbeat = 3 * time.Second
	pullLost      = 2*pullHeartbeat + time.Second
	// After this many heartbeats without an event, while events exist, the server cannot read on.
	stuckAfter = 1
	// The server forgets the consumer of a reader that asks for nothing; the reader makes another.
	consumerIdle = 2 * time.Minute
)

// pull is a consumer on one run of the server, with a connection of its own, so that a slow reader
// holds up nobody. It keeps no state: no acknowledgements, in memory, named at random, made again
// when it is gone.
type pull struct {
	run    *embedded
	nc     *nats.Conn
	msgs   chan *nats.Msg
	name   string
	inbox  string // requests get inbox.1, inbox.2, ... so that a late status is not taken for this one's
	count  int    // requests made
	open   bool   // the last request is not at its end
	left   int    // events that it may still bring
	idle   int    // heartbeats since the last event
	silent *time.Timer

	returned uint64 // events that Read returned; guarded by Reader.mu
}

// fetch sees to it that a message is held, waiting for one if wait is set. Without wait it may
// leave none.
func (r *Reader) fetch(ctx context.Context, wait bool) error {
	if r.held != nil {
		return nil
	}
	for {
		if r.ctx.Err() != nil {
			return r.ended()
		}
		if wait && ctx.Err() != nil {
			return ctx.Err()
		}
		if r.pull == nil {
			if !wait {
				return nil
			}
			if err := r.connect(ctx); err != nil {
				return err
			}
			continue
		}
		p := r.pull
		if !p.open {
			if err := p.request(); err != nil {
				r.drop()
				continue
			}
		}
		var m *nats.Msg
		select {
		case m = <-p.msgs:
		default:
			if !wait {
				return nil
			}
			p.silent.Reset(pullLost)
			select {
			case m = <-p.msgs:
			case <-p.run.gone:
				r.drop()
				continue
			case <-p.silent.C:
				r.j.log.Debug("a reader's consumer is silent; making another", "consumer", p.name)
				r.drop()
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-r.ctx.Done():
				return r.ended()
			}
		}
		seq, lost := p.receive(m)
		// A reader that was not read for a while finds old heartbeats first, and its events after
		// them.
		if lost || p.idle > stuckAfter && len(p.msgs) == 0 && r.stuck(ctx) {
			r.drop()
			continue
		}
		if seq != 0 && seq >= r.next {
			r.held, r.seq, r.run = m, seq, p.run
			return nil
		}
	}
}

// stuck reports whether another consumer would bring what this one does not: the events were
// dropped, or the server cannot read them. At a block that gives an error it tries again for ever,
// and sends heartbeats. The reader then begins after the block, and the rest is a gap.
func (r *Reader) stuck(ctx context.Context) bool {
	r.pull.idle = 0
	if mark, _, _ := r.j.durable.get(); r.next == 0 || r.next > mark {
		return false // there is nothing to read
	}
	if st, err := r.j.State(ctx); err == nil && st.FirstSeq > r.next {
		return true // consume makes a gap of it
	}
	if n, err := r.pull.pending(ctx, &r.mu); err == nil && n == 0 {
		return false // the last events are missing; a gap when other events follow them
	}
	next, ok := behindUnreadable(r.pull.run.msgs, r.next)
	if !ok {
		if r.stuckAt != r.next {
			r.j.log.Error("the journal cannot be read on", "at", r.next)
		}
		r.stuckAt = r.next
		return false
	}
	r.jump = next
	return true
}

// drop gives the consumer up, and what was received from it and not returned.
func (r *Reader) drop() {
	r.mu.Lock()
	p := r.pull
	r.pull = nil
	r.mu.Unlock()
	if p != nil {
		p.close()
	}
	r.held = nil
}

// connect makes a consumer at the reader's place, on the current run of the server, waiting for
// one.
func (r *Reader) connect(ctx context.Context) error {
	run, changed, rewinds := r.j.runs.get()
	if run == nil {
		select {
		case <-changed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ctx.Done():
			return r.ended()
		}
	}
	p, err := r.consume(ctx, run, rewinds[r.rewinds:])
	var gap *GapError
	switch {
	case err == nil:
	case errors.As(err, &gap), ctx.Err() != nil:
		return err
	default:
		select {
		case <-run.gone:
			// It went while it was asked. Wait until another is there.
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			case <-r.ctx.Done():
			}
			return nil
		default:
		}
		return &Error{Op: "read", Dir: r.j.o.Dir, Kind: ErrServer, Err: err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		p.close() // Close came first and saw nothing
		return r.ended()
	}
	r.pull, r.rewinds = p, len(rewinds)
	return nil
}

// beforeFirst is the gap before the journal's first event: retention dropped it, or it is known to
// have been damaged.
func (r *Reader) beforeFirst(from, to uint64) *GapError {
	gap := &GapError{From: from, To: to, Reason: GapRetention}
	if r.j.losses.has(to) {
		gap.Reason = GapLost
	}
	return gap
}

// missing is what the journal does not have any more of what comes next, now that it begins with
// first and ends with last and was set back to each of rewinds since the reader's last consumer;
// nil if nothing.
func (r *Reader) missing(first, last uint64, rewinds []uint64) error {
	for _, end := range rewinds {
		last = min(last, end) // the numbers after it may be in use again, for other events
	}
	if r.next > last+1 {
		return &GapError{From: last + 1, To: r.next - 1, Reason: GapRewound}
	}
	// Told here, and not by the number of the first event that comes: perhaps none is left.
	if mark, _, _ := r.j.durable.get(); r.next < first && r.next <= mark {
		return r.beforeFirst(r.next, min(first-1, mark))
	}
	return nil
}

// consume makes a consumer on run. rewinds are the places to which the journal was set back since
// the one before.
func (r *Reader) consume(ctx context.Context, run *embedded, rewinds []uint64) (*pull, error) {
	cfg := jetstream.ConsumerConfig{
		Name:              ReaderConsumers + rand.Text()[:12],
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: consumerIdle,
	}
	switch {
	case r.next != 0:
		// A consumer that begins after the last event skips the new events until its number is
		// reached. So never begin there.
		info, err := run.stream.Info(ctx)
		if err != nil {
			return nil, err
		}
		if err := r.missing(info.State.FirstSeq, info.State.LastSeq, rewinds); err != nil {
			return nil, err
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, max(r.next, r.jump)
	case !r.from.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.from
	}
	if _, err := run.js.CreateConsumer(ctx, StreamName, cfg); err != nil {
		return nil, err
	}
	nc, err := run.connect("read")
	if err != nil {
		return nil, err
	}
	p := &pull{run: run, nc: nc, name: cfg.Name, inbox: nc.NewInbox(), silent: time.NewTimer(pullLost),
		// Room for a whole request, and for the heartbeats and the end of one that nobody reads.
		msgs: make(chan *nats.Msg, pullEvents+64)}
	if _, err := nc.ChanSubscribe(p.inbox+".*", p.msgs); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// request asks for the next events.
func (p *pull) request() error {
	p.count++
	p.open, p.left = true, pullEvents
	body := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`,
		pullEvents, pullBytes, pullExpires, pullHeartbeat)
	return p.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+StreamName+"."+p.name, p.reply(), body)
}

func (p *pull) reply() string { return p.inbox + "." + strconv.Itoa(p.count) }

// receive takes a message in: an event's sequence number, 0 for a status. lost means that the
// consumer does not exist any more.
func (p *pull) receive(m *nats.Msg) (seq uint64, lost bool) {
	if strings.HasPrefix(m.Subject, p.inbox) {
		switch status := m.Header.Get("Status"); {
		case status == "100":
			p.idle++
		case status == "503", status == "409" && strings.Contains(m.Header.Get("Description"), "Deleted"):
			return 0, true
		case m.Subject == p.reply():
			p.open = false
		}
		return 0, false
	}
	p.idle = 0
	if p.left--; p.left <= 0 {
		p.open = false
	}
	seq, ok := streamSeq(m.Reply)
	return seq, !ok
}

// streamSeq takes the stream's sequence number from an acknowledgement subject:
// $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
func streamSeq(reply string) (uint64, bool) {
	const field = 5
	at := 0
	for range field {
		i := strings.IndexByte(reply[at:], '.')
		if i < 0 {
			return 0, false
		}
		at += i + 1
	}
	end := strings.IndexByte(reply[at:], '.')
	if end < 0 {
		return 0, false
	}
	seq, err := strconv.ParseUint(reply[at:at+end], 10, 64)
	return seq, err == nil && seq > 0
}

// pending is what the consumer has not sent, and what it sent and Read did not return.
func (p *pull) pending(ctx context.Context, mu *sync.Mutex) (uint64, error) {
	// Read before it asks: what Read returns meanwhile makes the number too large, never too small.
	mu.Lock()
	returned := p.returned
	mu.Unlock()
	c, err := p.run.js.Consumer(ctx, StreamName, p.name)
	if err != nil {
		return 0, err
	}
	info := c.CachedInfo()
	all := info.NumPending + info.Delivered.Consumer
	return all - min(all, returned), nil
}

// delete asks the server to delete the consumer, without waiting for it.
func (p *pull) delete() {
	// An error means that the connection or the server is gone, and the consumer with it.
	_ = p.nc.PublishRequest("$JS.API.CONSUMER.DELETE."+StreamName+"."+p.name, p.reply(), nil)
}

// close ends the consumer. The server is not asked to: it forgets an idle one by itself.
func (p *pull) close() {
	p.silent.Stop()
	p.nc.Close()
}
