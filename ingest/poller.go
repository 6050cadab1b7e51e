package ingest

import (
	"container/heap"
	"math"
	"sync"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxPatience bounds the time between two polls of a relay that answers none, unless the interval is longer: see patience.
	maxPatience = 30 * time.Second
	// worrying is how long a connected relay may leave polls unanswered before the log says so.
	worrying = 3 * time.Minute
)

// A collector's first poll is out of phase. The regular one that happens to follow it within half an interval, a second at most, is
// not wanted: the answer to the first would hardly be there, and the collector would tell the same again.
const afterFirst = time.Second

// poller asks every relay when it is time to. One goroutine does it, with a heap of the relays by when they have
// something due: asking is nothing but queueing a line, so that no relay can hold it up.
//
// Its time is nanoseconds of the wall clock at the start plus what has passed since: phases stay where they are over
// a restart, and nothing happens to them when the clock is set.
type poller struct {
	srv   *Server
	start time.Time
	wake  chan struct{} // capacity 1
	stop  chan struct{}
	done  chan struct{}

	// names and lines are run's, reused for every poll.
	names []string
	lines []byte

	mu    sync.Mutex // guards queue and the due and pos of the relays in it; nothing else is locked under it
	queue relayHeap
}

func newPoller(srv *Server) *poller {
	return &poller{srv: srv, start: time.Now(), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
}

// clock returns the poller's time.
func (p *poller) clock() int64 { return p.start.UnixNano() + int64(time.Since(p.start)) }

// schedule has r looked at when due, or earlier if that was asked for before. math.MaxInt64 is never.
func (p *poller) schedule(r *relay, due int64) {
	if due == math.MaxInt64 {
		return
	}
	p.mu.Lock()
	switch {
	case r.pos < 0:
		r.due = due
		heap.Push(&p.queue, r)
	case due < r.due:
		r.due = due
		heap.Fix(&p.queue, r.pos)
	}
	first := r.pos == 0 && r.due == due
	p.mu.Unlock()
	if first {
		select {
		case p.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// take returns a relay that is due, or how long there is until one is.
func (p *poller) take(now int64) (*relay, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil, time.Hour
	}
	if wait := p.queue[0].due - now; wait > 0 {
		return nil, time.Duration(wait)
	}
	return heap.Pop(&p.queue).(*relay), 0
}

func (p *poller) run() {
	defer close(p.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		r, wait := p.take(p.clock())
		if r != nil {
			p.schedule(r, p.look(r))
			select {
			case <-p.stop:
				return
			default:
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.stop:
			return
		}
	}
}

// look polls what is due at r, and drops what r did not add again. It returns when to look again. Looking too early does no harm.
func (p *poller) look(r *relay) (next int64) {
	srv := p.srv
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sess == nil {
		return math.MaxInt64
	}
	now := p.clock()
	if r.confirmBy != 0 && now >= r.confirmBy {
		p.dropUnconfirmed(r)
	}
	r.pruneOverrides(now)

	p.names = p.names[:0]
	regular := false
	for _, c := range r.collectors {
		interval := r.interval(c.name, now, srv.opt.PollInterval)
		due := after(r.polledAt, interval, r.phase) <= now
		if due && c.firstAt != 0 {
			due = now-c.firstAt >= int64(min(afterFirst, interval/2))
			c.firstAt = 0
		}
		if due || c.fresh && c.freshDue <= now {
			p.names = append(p.names, c.name)
		}
		regular = regular || due
	}
	r.polledAt = now
	switch {
	case len(p.names) == 0:
	case r.asked != 0 && now < r.asked+r.patience(srv.opt.PollInterval):
		if regular {
			r.skipped.Add(1)
			srv.m.skipped.Inc()
			p.postpone(r, now)
		}
	default:
		if r.asked == 0 {
			r.silentSince = now
		} else {
			r.unanswered.Add(1)
			srv.m.unanswered.Inc()
			if silent := time.Duration(now - r.silentSince); silent >= worrying {
				srv.quiet.warn("unanswered", "relay is connected and does not answer polls", "relay", r.id, "for", silent.Round(time.Second))
			}
		}
		p.lines = relaywire.AppendGet(p.lines[:0], p.names)
		if !r.sess.send(p.lines) {
			return math.MaxInt64 // the session is ending
		}
		r.asked = now
		r.polls.Add(1)
		srv.m.polls.Inc()
		for _, name := range p.names {
			c := r.byName[name]
			if c.fresh && !regular {
				c.firstAt = now
			}
			c.fresh = false
		}
	}
	return r.next(now, srv.opt.PollInterval)
}

// postpone keeps the skipped poll due for those of p.names whose next one is far: they are polled with the answer that is waited for, or
// when it is given up. It needs r.mu.
func (p *poller) postpone(r *relay, now int64) {
	for _, name := range p.names {
		if r.interval(name, now, p.srv.opt.PollInterval) > maxPatience {
			c := r.byName[name]
			c.fresh, c.freshDue = true, now
		}
	}
}

// patience is how long after the newest poll its answer may still be under way, so that another poll would only wait behind it. It is
// four times as long as the last answer took, within limits: a slow relay is polled as fast as it answers. And it is a seventh of the
// time for which no poll was answered, maxPatience at most: a stuck relay does not find a pile of polls. A poll that is older has no
// answer: relays that have nothing to say may say nothing. It needs mu.
func (r *relay) patience(interval time.Duration) int64 {
	slow := min(4*r.took, max(3*int64(interval), 4*int64(maxPatience)))
	stuck := min((r.asked-r.silentSince)/7, int64(maxPatience))
	return max(slow, stuck)
}

// dropUnconfirmed needs r.mu.
func (p *poller) dropUnconfirmed(r *relay) {
	r.confirmBy = 0
	kept := r.collectors[:0]
	for _, c := range r.collectors {
		if !c.unconfirmed {
			kept = append(kept, c)
			continue
		}
		r.series -= len(c.stats.entries)
		delete(r.byName, c.name)
		p.srv.m.dropped.Inc()
		p.srv.events.put(codec.RelayEvent{Relay: r.id, Time: p.srv.opt.Now().UnixNano(), Kind: codec.RelayRemoved,
			Collector: c.name, Reason: "not added again after reconnecting"})
	}
	if len(kept) < len(r.collectors) {
		clear(r.collectors[len(kept):])
		r.collectors = kept
		p.srv.store.changed(r.id)
	}
}

// answered is called with r.mu held when a line of readings comes. It returns how long the poll took, 0 if none was unanswered.
func (p *poller) answered(r *relay) time.Duration {
	if r.asked == 0 {
		return 0
	}
	now := p.clock()
	r.took = max(now-r.asked, 1)
	r.asked = 0
	for _, c := range r.collectors {
		if c.fresh {
			p.schedule(r, max(c.freshDue, now))
			break
		}
	}
	return time.Duration(r.took)
}

// next returns when r has to be looked at again. It needs mu.
func (r *relay) next(now int64, interval time.Duration) int64 {
	next := int64(math.MaxInt64)
	if r.confirmBy != 0 {
		next = r.confirmBy
	}
	if len(r.collectors) == 0 {
		return next
	}
	waited := int64(0) // until when an answer is waited for
	if r.asked != 0 {
		waited = r.asked + r.patience(interval)
	}
	if len(r.overrides) == 0 {
		next = min(next, after(r.polledAt, interval, r.phase))
	}
	for _, c := range r.collectors {
		if len(r.overrides) > 0 {
			next = min(next, after(r.polledAt, r.interval(c.name, now, interval), r.phase))
		}
		if c.fresh {
			next = min(next, max(c.freshDue, waited))
		}
	}
	for _, o := range r.overrides {
		next = min(next, o.ends) // intervals change then
	}
	return next
}

// after returns the first instant after t that belongs to the phase: the instants are interval apart, and those of an interval that
// divides another are among them, so that what can be polled together is.
func after(t int64, interval time.Duration, phase uint64) int64 {
	i := int64(interval)
	offset := int64(phase % uint64(i))
	return t + i - ((t-offset)%i+i)%i
}

// relayHeap orders relays by due. Its relays' pos are their indexes, -1 outside.
type relayHeap []*relay

func (h relayHeap) Len() int           { return len(h) }
func (h relayHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h relayHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *relayHeap) Push(x any) {
	r := x.(*relay)
	r.pos = len(*h)
	*h = append(*h, r)
}

func (h *relayHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	r.pos = -1
	return r
}
