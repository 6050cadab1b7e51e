package ingest

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// queueCount is how many relay events are on their way to the journal at once: the journal
	// makes one write of what arrives together.
	queueCount = 64
	// maxEvents is how many relay events may wait: enough for ten thousand relays that add ten
	// collectors each.
	maxEvents = 200_000
)

// eventQueues bring relay events to the journal without making anybody wait. The events of one
// relay keep their order. What does not fit, or what the journal refuses, is counted as lost: the
// registry, not the journal, is what sessions rely on.
type eventQueues struct {
	appends context.Context
	journal Journal
	m       *metrics
	log     *quietlog.Logger

	seed    maphash.Seed
	queues  [queueCount]eventQueue
	waiting atomic.Int64
	drains  sync.WaitGroup // the goroutines that empty the queues
}

type eventQueue struct {
	mu     sync.Mutex // guards what follows
	events []queuedEvent
	// draining is whether a goroutine empties the queue. There is none while the queue is empty.
	draining bool
}

// queuedEvent is an event that waits. done, unless it is nil, has room for how that ends.
type queuedEvent struct {
	codec.RelayEvent
	done chan<- error
}

func newEventQueues(appends context.Context, j Journal, m *metrics, log *quietlog.Logger) *eventQueues {
	return &eventQueues{appends: appends, journal: j, m: m, log: log, seed: maphash.MakeSeed()}
}

// put queues an event. It keeps the event's tags, which nobody may change any more. done may be
// nil; if not, it must have room for one error, and gets nil when the journal has the event.
func (q *eventQueues) put(event codec.RelayEvent, done chan<- error) {
	e := queuedEvent{event, done}
	if q.waiting.Add(1) > maxEvents {
		q.waiting.Add(-1)
		q.m.eventsLost.Inc()
		q.log.WarnRarely("events", "relay events are not journaled: too many are waiting", "limit", maxEvents)
		e.finish(fmt.Errorf("%w: %d relay events wait for the journal; try again", ErrTooMany, maxEvents))
		return
	}
	one := &q.queues[maphash.String(q.seed, event.Relay)%queueCount]
	one.mu.Lock()
	defer one.mu.Unlock()
	one.events = append(one.events, e)
	if !one.draining {
		one.draining = true
		q.drains.Go(func() { q.drain(one) })
	}
}

func (e *queuedEvent) finish(err error) {
	if e.done != nil {
		e.done <- err
	}
}

func (q *eventQueues) drain(one *eventQueue) {
	for {
		one.mu.Lock()
		events := one.events
		one.events = nil
		one.draining = len(events) > 0
		one.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for i := range events {
			_, err := q.journal.AppendRelayEvent(q.appends, &events[i].RelayEvent)
			if err != nil {
				q.m.eventsLost.Inc()
				q.log.WarnRarely("event append", "relay events are not journaled", "error", err)
			}
			events[i].finish(err)
		}
		q.waiting.Add(-int64(len(events)))
	}
}

// flush waits until no event is waiting any more. Nobody may put one at the same time. It hears no
// context: the appends end with theirs.
func (q *eventQueues) flush() { q.drains.Wait() }
