package ingest

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollGrid is the time between two instants at which polls are sent. Relays that become due
	// between them are polled together: one goroutine wakes once for all of them, their answers
	// arrive together, and the journal makes one write of these. Intervals stay exact, because they
	// are multiples of it.
	pollGrid = 10 * time.Millisecond
	// company is how many relays should be polled at an instant: see together.
	company = 32
	// wheelSlots is how many instants the wheel has a slot for: ten seconds. Relays that are due
	// later share slots with those that are due sooner.
	wheelSlots = 1024
)

// schedule is when each connected relay is polled next: a timer wheel, in which a relay is found
// and moved in constant time, without an allocation and without a runtime timer for each relay.
// Instants are counted in grids of [env.tick].
type schedule struct {
	tick     func() int64
	interval time.Duration // the poll interval of most relays
	// grid is the time between two instants of regular polls, in ns.
	grid atomic.Int64
	// timer fires when the next slot with a relay has to be looked through. Only the poller
	// receives from it.
	timer *time.Timer

	// mu guards what follows, and visit and place of every relay. It comes after relay.mu.
	mu    sync.Mutex
	wheel [wheelSlots][]*relay
	held  int // relays in the wheel
	// passed is the newest instant whose slot was looked through.
	passed int64
	// wakes is the instant that timer is set for: farAway if it is not set, 0 while the poller is
	// awake.
	wakes int64
}

const farAway = math.MaxInt64

func newSchedule(tick func() int64, interval time.Duration) *schedule {
	s := &schedule{tick: tick, interval: interval, timer: time.NewTimer(time.Hour), passed: tick()/int64(pollGrid) - 1, wakes: farAway}
	s.timer.Stop()
	s.grid.Store(int64(pollGrid))
	return s
}

// together returns the instant at which a regular poll is sent that is due at a time. In a small
// fleet few relays are due within 10 ms, and a wake-up and a write of the journal for each of them
// are most of what the fleet costs. So the fewer relays there are, the further apart the instants
// are: up to 100 ms, or a tenth of the poll interval.
func (s *schedule) together(due int64) int64 {
	grid := s.grid.Load()
	return (due + grid - 1) / grid * grid
}

// regrid sets the time between two instants of regular polls. It always divides 100 ms, so that
// intervals stay exact. It needs mu.
func (s *schedule) regrid() {
	grid := int64(pollGrid)
	for _, step := range [...]int64{2, 5, 10} {
		next := step * int64(pollGrid)
		if 10*next > int64(s.interval) || int64(s.held)*grid > company*int64(s.interval) {
			break
		}
		grid = next
	}
	s.grid.Store(grid)
}

// set has the relay polled at due, or at the first instant after it, and not when it was to be
// polled before.
func (s *schedule) set(r *relay, due int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r)
	r.visit = max((due-1)/int64(pollGrid)+1, s.passed+1)
	slot := &s.wheel[r.visit%wheelSlots]
	r.place = len(*slot)
	*slot = append(*slot, r)
	s.held++
	if r.visit < s.wakes {
		s.wake(r.visit)
	}
}

// unset has the relay polled no more.
func (s *schedule) unset(r *relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r)
}

// remove needs mu.
func (s *schedule) remove(r *relay) {
	if r.visit == 0 {
		return
	}
	slot := &s.wheel[r.visit%wheelSlots]
	last := len(*slot) - 1
	moved := (*slot)[last]
	(*slot)[r.place], moved.place = moved, r.place
	(*slot)[last] = nil
	*slot = (*slot)[:last]
	s.held--
	r.visit = 0
}

// wake sets the timer for an instant. It needs mu.
func (s *schedule) wake(at int64) {
	s.wakes = at
	s.timer.Reset(time.Duration(at*int64(pollGrid) - s.tick()))
}

// take appends the relays that are due, and takes them out of the schedule. The timer is not set
// again before rest.
func (s *schedule) take(due []*relay) []*relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakes = 0
	now := s.tick() / int64(pollGrid)
	// One turn of the wheel finds everything, however long the machine was suspended.
	for at := max(s.passed+1, now-wheelSlots+1); at <= now; at++ {
		slot := s.wheel[at%wheelSlots]
		for i := len(slot) - 1; i >= 0; i-- { // remove fills the gap from the end
			if r := slot[i]; r.visit <= now {
				s.remove(r)
				due = append(due, r)
			}
		}
	}
	s.passed = max(s.passed, now)
	return due
}

// rest sets the timer for the next slot with a relay.
func (s *schedule) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.regrid()
	s.wakes = farAway
	for at := s.passed + 1; at <= s.passed+wheelSlots; at++ {
		if len(s.wheel[at%wheelSlots]) > 0 {
			s.wake(at)
			return
		}
	}
}
