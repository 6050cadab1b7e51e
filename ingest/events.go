package ingest

import (
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/nanopack/pulse/journal/codec"
)

const (
	// eventQueues is how many relay events are on their way to the journal at once: the journal makes one write of what
	// arrives together. maxEvents is how many may wait, enough for ten thousand relays that add ten collectors each.
	eventQueues = 64
	maxEvents   = 200_000
)

// relayEvents brings relay events to the journal without making anybody wait. The events of one relay keep their order. What does not
// fit, or what the journal refuses, is counted as lost: the registry, not the journal, is what sessions rely on.
type relayEvents struct {
	srv    *Server
	seed   maphash.Seed
	queues [eventQueues]eventQueue

	mu      sync.Mutex // guards what follows; comes after a queue's mu
	waiting int
	idle    *sync.Cond // waiting became 0
}

type eventQueue struct {
	mu     sync.Mutex // guards what follows
	events []queuedEvent
	// running says that a goroutine empties the queue. There is none while it is empty.
	running bool
}

// queuedEvent is an event on its way. done, which has room, is told how it ended, unless it is nil.
type queuedEvent struct {
	codec.RelayEvent
	done chan<- error
}

func newRelayEvents(srv *Server) *relayEvents {
	e := &relayEvents{srv: srv, seed: maphash.MakeSeed()}
	e.idle = sync.NewCond(&e.mu)
	return e
}

// put queues an event. It keeps the event's tags, which nobody may change any more.
func (e *relayEvents) put(event codec.RelayEvent) { e.enqueue(queuedEvent{RelayEvent: event}) }

// write queues an event as put does, and returns where it is told that the journal has it, or why not.
func (e *relayEvents) write(event codec.RelayEvent) <-chan error {
	done := make(chan error, 1)
	e.enqueue(queuedEvent{event, done})
	return done
}

func (e *relayEvents) enqueue(event queuedEvent) {
	e.mu.Lock()
	full := e.waiting >= maxEvents
	if !full {
		e.waiting++
	}
	e.mu.Unlock()
	if full {
		e.srv.m.eventsLost.Inc()
		e.srv.quiet.warn("events", "relay events are not journaled: too many are waiting", "limit", maxEvents)
		event.end(fmt.Errorf("%w: %d relay events wait for the journal; try again", ErrTooMany, maxEvents))
		return
	}
	q := &e.queues[maphash.String(e.seed, event.Relay)%eventQueues]
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	if !q.running {
		q.running = true
		go e.drain(q)
	}
}

func (e *queuedEvent) end(err error) {
	if e.done != nil {
		e.done <- err
	}
}

func (e *relayEvents) drain(q *eventQueue) {
	for {
		q.mu.Lock()
		events := q.events
		q.events = nil
		if len(events) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for i := range events {
			_, err := e.srv.opt.Journal.AppendRelayEvent(e.srv.ctx, &events[i].RelayEvent)
			if err != nil {
				e.srv.m.eventsLost.Inc()
				e.srv.quiet.warn("event append", "relay events are not journaled", "error", err)
			}
			events[i].end(err)
		}
		e.mu.Lock()
		if e.waiting -= len(events); e.waiting == 0 {
			e.idle.Broadcast()
		}
		e.mu.Unlock()
	}
}

// flush waits until nothing is on its way any more. It hears no context: when the server's ends, so do the appends.
func (e *relayEvents) flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.waiting > 0 {
		e.idle.Wait()
	}
}
