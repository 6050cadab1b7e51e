package ingest

import (
	"container/heap"
	"math"
	"sync"
	"time"
)

// never is a time that does not come.
const never = math.MaxInt64

// schedule is when each relay has something due, in the time of [env.tick]. The poller takes relays
// from it; everybody may have a relay looked at, and asking is all that it costs.
type schedule struct {
	wake chan struct{} // has room for one, which is there when the earliest time has changed

	mu    sync.Mutex // guards queue and the alarms of the relays; nothing else is locked under it
	queue relayHeap
}

// alarm is a relay's place in a schedule.
type alarm struct {
	due int64
	pos int // in the heap; -1 outside
}

func newSchedule() *schedule { return &schedule{wake: make(chan struct{}, 1)} }

// add has r looked at when due, or earlier if that was asked for before.
func (s *schedule) add(r *relay, due int64) {
	if due == never {
		return
	}
	s.mu.Lock()
	switch {
	case r.alarm.pos < 0:
		r.alarm.due = due
		heap.Push(&s.queue, r)
	case due < r.alarm.due:
		r.alarm.due = due
		heap.Fix(&s.queue, r.alarm.pos)
	}
	first := r.alarm.pos == 0 && r.alarm.due == due
	s.mu.Unlock()
	if first {
		notify(s.wake)
	}
}

// take returns a relay that is due, or how long there is until one is.
func (s *schedule) take(now int64) (*relay, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, time.Hour
	}
	if wait := s.queue[0].alarm.due - now; wait > 0 {
		return nil, time.Duration(wait)
	}
	return heap.Pop(&s.queue).(*relay), 0
}

// relayHeap orders relays by when they are due.
type relayHeap []*relay

func (h relayHeap) Len() int           { return len(h) }
func (h relayHeap) Less(i, j int) bool { return h[i].alarm.due < h[j].alarm.due }
func (h relayHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].alarm.pos, h[j].alarm.pos = i, j
}

func (h *relayHeap) Push(x any) {
	r := x.(*relay)
	r.alarm.pos = len(*h)
	*h = append(*h, r)
}

func (h *relayHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	r.alarm.pos = -1
	return r
}
