package ingest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/relaywire/relaytest"
)

// TestScheduleAgainstAModel sets, moves and removes relays at random, and lets time pass in steps of
// a nanosecond up to an hour. Every relay is taken exactly when it is due, and the timer is set for
// no later than that.
func TestScheduleAgainstAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	now := int64(1_700_000_000_000_000_000)
	s := newSchedule(func() int64 { return now }, time.Second)
	defer s.timer.Stop()
	relays := make([]*relay, 100)
	for i := range relays {
		relays[i] = &relay{id: fmt.Sprint(i)}
	}
	due := map[*relay]int64{} // in grids
	for range 2_000 {
		r := relays[rng.IntN(len(relays))]
		switch rng.IntN(4) {
		case 0:
			s.unset(r)
			delete(due, r)
		case 1, 2:
			at := now + rng.Int64N(int64([]time.Duration{1, time.Second, time.Hour}[rng.IntN(3)])) - int64(pollGrid)
			s.set(r, at)
			due[r] = max((at+int64(pollGrid)-1)/int64(pollGrid), s.passed+1)
		default:
			now += rng.Int64N(int64([]time.Duration{1, pollGrid, 10 * pollGrid, time.Minute}[rng.IntN(4)]))
			taken := s.take(nil)
			for _, r := range taken {
				if at, ok := due[r]; !ok || at > now/int64(pollGrid) {
					t.Fatalf("%s was taken at %d, due at %d (%v)", r.id, now/int64(pollGrid), at, ok)
				}
				delete(due, r)
			}
			s.rest()
		}
		for r, at := range due {
			if at <= s.passed {
				t.Fatalf("%s was due at %d and is not taken at %d", r.id, at, s.passed)
			}
			if s.wakes > at {
				t.Fatalf("%s is due at %d, the timer is set for %d", r.id, at, s.wakes)
			}
		}
	}
	held := 0
	for _, slot := range s.wheel {
		held += len(slot)
	}
	if held != len(due) {
		t.Errorf("%d relays are in the wheel, want %d", held, len(due))
	}
}

// TestPollsAreSentTogether: relays that are due shortly after one another are polled at the same
// instant, and each once an interval. The fewer they are, the further apart are the instants.
func TestPollsAreSentTogether(t *testing.T) {
	for _, c := range []struct {
		relays      int
		interval    time.Duration
		grid        time.Duration
		least, most int // instants in an interval
	}{
		{100, time.Second, 100 * time.Millisecond, 8, 10},
		{100, 200 * time.Millisecond, 20 * time.Millisecond, 8, 10},
		{50, 100 * time.Millisecond, 10 * time.Millisecond, 8, 10},
		{700, time.Second, 50 * time.Millisecond, 20, 20},
	} {
		t.Run(fmt.Sprint(c.relays, " every ", c.interval), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *Options) { o.PollInterval = c.interval })
				var mu sync.Mutex
				polls := map[time.Time]int{} // by instant
				for i := range c.relays {
					p := w.connect(fmt.Sprintf("relay-%d", i))
					p.add("a")
					p.want("get a")
					p.send("got a:1")
					go func() {
						for line := range p.lines {
							if line == "get a" {
								mu.Lock()
								polls[time.Now()]++
								mu.Unlock()
								p.send("got a:1")
							}
						}
					}()
				}
				time.Sleep(2 * c.interval) // the first polls have no grid
				settle()
				mu.Lock()
				clear(polls)
				mu.Unlock()
				time.Sleep(c.interval)
				settle()
				sum := 0
				for at, n := range polls {
					if at.UnixNano()%int64(c.grid) != 0 {
						t.Errorf("%d relays were polled between two instants, at %v", n, at)
					}
					sum += n
				}
				if n := len(polls); sum != c.relays || n < c.least || n > c.most {
					t.Errorf("%d polls at %d instants, want %d at %d to %d", sum, n, c.relays, c.least, c.most)
				}
				w.wantMetric(0, "polls_skipped_total")
			})
		})
	}
}

// TestBusyRelayDelaysNobody: while something holds the lock of a relay, the others are polled. The
// busy relay is polled when it is free.
func TestBusyRelayDelaysNobody(t *testing.T) {
	srv := tcpServer(t, Options{Journal: discard{}, PollInterval: 20 * time.Millisecond})
	busy, other := relaytest.Connect(t, srv.Addr().String(), "busy"), relaytest.Connect(t, srv.Addr().String(), "other")
	for _, c := range []*relaytest.Conn{busy, other} {
		c.Add("a")
		c.Poll("a:1")
	}
	r := srv.registry.get("busy")
	var polls uint64
	func() {
		r.mu.Lock()
		defer r.mu.Unlock() // when the test fails too: the server could not stop
		for range 10 {
			other.Poll("a:1")
		}
		polls = r.counts.Polls
	}()
	eventually(t, "a poll of the relay that was busy", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.counts.Polls > polls
	})
}
