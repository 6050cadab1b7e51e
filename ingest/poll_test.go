package ingest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

func TestFirstPollGathersAddsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		for range 3 { // connected for so long, without anything to poll, that every phase has passed
			time.Sleep(50 * time.Second)
			p.send("ping")
			p.want("pong")
		}
		start := time.Now()
		p.add("a")
		time.Sleep(50 * time.Millisecond)
		p.add("b")
		time.Sleep(50 * time.Millisecond)
		p.add("c")
		p.want("get a,b,c")
		if d := time.Since(start); d > time.Second || d < 100*time.Millisecond {
			t.Errorf("first poll after %v, want within a second, but not before the adds are together", d)
		}
	})
}

func TestPollsComeEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
		p := w.connect("web1")
		p.add("a", "b")
		p.want("get a,b")
		var last time.Time
		for i := range 50 {
			p.send("got a:1,b:2")
			p.want("get a,b")
			now := time.Now()
			if i > 0 && now.Sub(last) != 10*time.Second {
				t.Fatalf("poll %d came %v after the one before, want 10s", i, now.Sub(last))
			}
			last = now
		}
		settle()
		w.wantMetric(51, "polls_total")
		w.wantMetric(0, "polls_skipped_total")
		w.wantMetric(50, "poll_answer_seconds")
		if r := w.relay("web1"); r.Polls != 51 || r.Skipped != 0 {
			t.Errorf("Relays says %d polls, %d skipped; want 51 and 0", r.Polls, r.Skipped)
		}
	})
}

func TestLaterAddIsPolledSoonAndThenWithTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a")
		p.want("get a")
		p.send("got a:1")
		p.add("b")
		start := time.Now()
		p.want("get b") // even if the relay has no reading of b
		if d := time.Since(start); d > time.Second {
			t.Errorf("the first poll of b came after %v", d)
		}
		p.add("c")
		start = time.Now()
		p.want("get c")
		if d := time.Since(start); d > time.Second {
			t.Errorf("the first poll of c came after %v", d)
		}
		p.send("got c:1")
		p.want("get a,b,c")
		w.wantMetric(0, "polls_skipped_total")
	})
}

func TestUnaskedReadingsAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a")
		p.send("got a:1") // before any poll
		p.want("get a")
		p.send("got a:2", "got a:3")
		settle()
		w.wantMetric(3, "readings_total")
		w.wantMetric(1, "poll_answer_seconds")
	})
}

func TestRemovedCollectorIsPolledNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		p.add("a", "b")
		p.want("get a,b")
		p.send("got a:1,b:1", "remove a")
		p.want("ok")
		p.want("get b")
		p.send("remove b")
		p.want("ok")
		for range 10 {
			p.wantSilence(45 * time.Second)
			p.send("ping")
			p.want("pong")
		}
	})
}

func TestLongGetIsSeveralLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		asked := map[string]bool{}
		for i := range 500 {
			name := fmt.Sprintf("%0200d", i)
			p.add(name)
			asked[name] = false
		}
		for line := range p.lines {
			if len(line) >= relaywire.MaxLine {
				t.Fatalf("a get line of %d bytes", len(line))
			}
			names, _ := strings.CutPrefix(line, "get ")
			for _, n := range strings.Split(names, ",") {
				if done, ok := asked[n]; !ok || done {
					t.Fatalf("asked for %q (known: %v, already asked: %v)", n, ok, done)
				}
				delete(asked, n)
			}
			if len(asked) == 0 {
				break
			}
		}
		settle()
		w.wantMetric(1, "polls_total")
	})
}

// TestStuckRelayDelaysNobody: one relay never reads. The fifty beside it are polled on time until
// the stuck relay is disconnected, and afterwards.
func TestStuckRelayDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
		stuck := w.ln.dial() // identifies, adds, and never reads a byte
		defer stuck.Close()
		stuck.Write([]byte("id stuck\nadd a\n"))
		var peers []*peer
		for i := range 50 {
			p := w.connect(fmt.Sprintf("relay-%d", i))
			p.add("a")
			p.want("get a")
			p.send("got a:1")
			peers = append(peers, p)
		}
		last := make([]time.Time, len(peers))
		for round := range 4 {
			for range peers {
				// The test does not know which relay is polled next, so it looks at each channel
				// when every goroutine is blocked.
				for i, p := range peers {
					select {
					case line := <-p.lines:
						if line != "get a" {
							t.Fatalf("relay %d: %q", i, line)
						}
						if d := time.Since(last[i]); round > 0 && d > 11*time.Second {
							t.Errorf("relay %d was polled %v after its last poll", i, d)
						}
						last[i] = time.Now()
						p.send("got a:1")
					default:
					}
				}
				time.Sleep(10 * time.Second / time.Duration(len(peers)))
				settle()
			}
		}
		w.wantMetric(1, "disconnections_total", "reason", endStuck)
		w.wantMetric(50, "relays_connected")
	})
}

func TestPhasesSpreadOverTheInterval(t *testing.T) {
	const relays, slots = 10_000, 20
	var count [slots]int
	for i := range relays {
		r := newRelay(nil, fmt.Sprintf("relay-%05d", i))
		count[r.phase%uint64(time.Minute)*slots/uint64(time.Minute)]++
	}
	for slot, n := range count {
		if n < relays/slots*8/10 || n > relays/slots*12/10 {
			t.Errorf("slot %d of %d has %d of %d relays, want about %d: %v", slot, slots, n, relays, relays/slots, count)
		}
	}
}

func TestAfter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		interval := time.Duration(rng.Int64N(int64(time.Hour))) + 1
		phase, from := rng.Uint64(), rng.Int64N(math.MaxInt64/2)
		got := after(from, interval, phase)
		if got <= from || got > from+int64(interval) {
			t.Fatalf("after(%d, %d, %d) = %d, want within the interval that follows", from, interval, phase, got)
		}
		if (uint64(got)-phase%uint64(interval))%uint64(interval) != 0 {
			t.Fatalf("after(%d, %d, %d) = %d is not in phase", from, interval, phase, got)
		}
		// An interval three times as long is polled in step with the shorter one.
		if again := after(got-1, interval*3, phase); again != got && (again-got)%int64(interval) != 0 {
			t.Fatalf("an interval three times as long is polled at %d, out of step with %d", again, got)
		}
	}
}

// TestTheEarliestPollCounts: if several times are asked for, the earliest counts. A relay whose
// session has ended sets no timer.
func TestTheEarliestPollCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := benchSession(t, Options{}, "a")
		r := s.relay
		due := func() int64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.polling.due
		}
		now := s.env.tick()
		for _, after := range []time.Duration{time.Hour, time.Minute, time.Second, 2 * time.Second} {
			r.mu.Lock()
			r.pollAt(now + int64(after))
			r.mu.Unlock()
		}
		if got := due() - now; got != int64(time.Second) {
			t.Errorf("due in %v, want a second", time.Duration(got))
		}
		ctx, stop := context.WithCancel(t.Context())
		var polling sync.WaitGroup
		polling.Go(func() { (&poller{schedule: s.env.schedule}).run(ctx) })
		s.kill(endStopped) // nothing can be sent: no further poll
		time.Sleep(time.Second + pollGrid)
		stop()
		polling.Wait()
		if due() != never {
			t.Errorf("due at %d after the end", due())
		}
	})
}

// TestNoPollRightAfterTheFirst: relays whose phase comes just after their first poll are not polled
// twice in a row, and no relay waits for its second poll longer than an interval and a second.
func TestNoPollRightAfterTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PollInterval = 10 * time.Second })
		for i := range 200 {
			p := w.connect(fmt.Sprintf("relay-%d", i))
			p.add("a")
			p.want("get a")
			start := time.Now()
			p.send("got a:1")
			p.want("get a")
			if d := time.Since(start); d < time.Second || d > 11*time.Second {
				t.Errorf("relay-%d was polled again %v after its first poll", i, d)
			}
			p.send("got a:2", "close")
			p.wantClosed()
		}
		w.wantMetric(0, "polls_skipped_total")
	})
}
