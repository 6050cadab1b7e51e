package relay_test

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/relaywire/relay"
)

// counter is a collector that counts up with each call.
func counter(n *atomic.Int64) relay.Collector {
	return relay.NewPointCollector(func() float64 { return float64(n.Add(1)) })
}

// TestMeansAreWithinTheSamples: a mean is never outside the range of its samples, even when their
// sum overflows a float64 or is rounded.
func TestMeansAreWithinTheSamples(t *testing.T) {
	for _, value := range []float64{1e308, -1.7e308, 0.1, 0.7} {
		for _, reduce := range []relay.Reduction{relay.Mean(), relay.RunningMean(11)} {
			synctest.Test(t, func(t *testing.T) {
				s := pipes(t)
				r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
				p := s.accept()
				add(t, r, "x", relay.Sample(relay.NewPointCollector(func() float64 { return value }), time.Second, reduce))
				p.expect("add x:")
				time.Sleep(11500 * time.Millisecond)
				text := strings.TrimPrefix(p.poll("x"), "x-x:")
				if got, err := strconv.ParseFloat(text, 64); err != nil || got != value {
					t.Errorf("the %v of %v is %q, %v", reduce, value, text, err)
				}
			})
		}
	}
}

// TestSampling: samples 1, 2, 3... are taken at 0 s, 1 s, 2 s... and reduced at each poll.
func TestSampling(t *testing.T) {
	for _, c := range []struct {
		reduce relay.Reduction
		polls  [4]string // at 3.5 s, 3.6 s (sampled by the poll), 5.5 s and, after a flush, at 7.5 s
	}{
		{relay.Last(), [4]string{"4", "5", "7", "9"}},
		{relay.Reduction{}, [4]string{"4", "5", "7", "9"}},
		{relay.Mean(), [4]string{"2.5", "5", "6.5", "9"}},
		{relay.Max(), [4]string{"4", "5", "7", "9"}},
		{relay.RunningMean(3), [4]string{"3", "4", "6", "9"}},
		{relay.RunningMean(0), [4]string{"4", "5", "7", "9"}},
	} {
		t.Run(c.reduce.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := pipes(t)
				r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
				p := s.accept()
				var n atomic.Int64
				add(t, r, "x", relay.Sample(counter(&n), time.Second, c.reduce))
				p.expect("add x:")
				poll := func(i int, after time.Duration) {
					t.Helper()
					time.Sleep(after)
					if got := p.poll("x"); got != "x-x:"+c.polls[i] {
						t.Errorf("poll %d: %s, want %s", i, got, c.polls[i])
					}
				}
				poll(0, 3500*time.Millisecond)
				poll(1, 100*time.Millisecond)
				poll(2, 1900*time.Millisecond)
				time.Sleep(time.Second) // sample 8
				p.say("flush")
				p.expect("ok")
				poll(3, time.Second) // sample 9
				if i := info(t, r, "x"); i.Interval != time.Second || i.Collections != 9 {
					t.Errorf("%+v", i)
				}
			})
		})
	}
}

// TestFlushOfNothing: a poll right after a flush takes a sample and answers with it.
func TestFlushOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
		p := s.accept()
		var n atomic.Int64
		add(t, r, "x", relay.Sample(counter(&n), time.Hour, relay.RunningMean(10)))
		p.expect("add x:")
		synctest.Wait() // for the first sample
		p.say("flush")
		p.expect("ok")
		if got := p.poll("x"); got != "x-x:2" {
			t.Errorf("%s", got)
		}
	})
}

// TestOverride: an override samples every interval until it ends, and the old interval applies
// again. A plain collector does not keep an old sample.
func TestOverride(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
		p := s.accept()
		p.alive.Store(true)
		var plain, slow atomic.Int64
		add(t, r, "plain", counter(&plain))
		add(t, r, "slow", relay.Sample(counter(&slow), time.Hour, relay.Mean()))
		p.expect("add plain:", "add slow:")
		synctest.Wait()
		if plain.Load() != 0 || slow.Load() != 1 {
			t.Fatalf("at first: %d, %d samples", plain.Load(), slow.Load())
		}
		p.say("override 60 plain:2,slow:4")
		p.expect("ok")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		// One sample at once and one every interval.
		if plain.Load() != 1+29 || slow.Load() != 1+1+14 {
			t.Errorf("after 59 s: %d, %d samples", plain.Load(), slow.Load())
		}
		if got := p.poll("plain,slow"); got != "plain-plain:30,slow-slow:8.5" {
			t.Errorf("%s", got)
		}
		// The override continues while the relay is not connected.
		time.Sleep(500 * time.Millisecond)
		p.hangUp()
		p = s.accept()
		p.alive.Store(true)
		p.expect("add plain:", "add slow:")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if plain.Load() > 31 || slow.Load() > 17 {
			t.Errorf("long after: %d, %d samples", plain.Load(), slow.Load())
		}
		before := plain.Load()
		if got := p.poll("plain"); got == "plain-plain:30" || plain.Load() != before+1 {
			t.Errorf("an old sample was sent as a new one: %s", got)
		}
		if i := info(t, r, "plain"); i.Interval != 0 || !i.OverriddenUntil.IsZero() {
			t.Errorf("%+v", i)
		}
	})
}

// TestCollectorsThatMisbehave: collectors that panic or block do not harm the others. Polls are
// answered without them, and with them again when they behave.
func TestCollectorsThatMisbehave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		var log logtest.Buffer
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, Logger: log.Logger()})
		p := s.accept()
		release := make(chan struct{})
		var bad atomic.Bool
		bad.Store(true)
		misbehave := func(how func()) relay.Collector {
			return relay.NewPointCollector(func() float64 {
				if bad.Load() {
					how()
				}
				return 1
			})
		}
		add(t, r, "blocks", misbehave(func() { <-release }))
		add(t, r, "exits", misbehave(runtime.Goexit))
		add(t, r, "good", point(2))
		add(t, r, "panics", misbehave(func() { panic("at the disco") }))
		p.expect("add blocks:", "add exits:", "add good:", "add panics:")
		for i := range 3 {
			began := time.Now()
			if got := p.poll("blocks,exits,good,panics"); got != "good-good:2" {
				t.Errorf("poll %d: %s", i, got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("poll %d was answered after %v", i, took)
			}
		}
		if i := info(t, r, "panics"); i.Panics != 3 || !errors.Is(i.LastError, relay.ErrPanic) || !strings.Contains(i.LastError.Error(), "at the disco") {
			t.Errorf("%+v", i)
		}
		if i := info(t, r, "blocks"); i.Timeouts != 3 || !errors.Is(i.LastError, relay.ErrStuck) || i.Running.IsZero() || i.Collections != 1 {
			t.Errorf("%+v", i)
		}
		if st := r.State(); !st.Connected || st.Connects != 1 || st.Polls != 3 {
			t.Errorf("%+v", st)
		}
		if i := info(t, r, "exits"); i.Panics != 3 || i.Timeouts != 0 || !i.Running.IsZero() {
			t.Errorf("%+v", i)
		}
		// The call that blocks is logged once, not once for each poll.
		if n := log.Count("collector=blocks"); n != 1 || log.Count("at the disco") != 3 {
			t.Errorf("log: %s", log.String())
		}
		bad.Store(false)
		close(release)
		synctest.Wait()
		if got := p.poll("blocks,exits,good,panics"); got != "blocks-blocks:1,exits-exits:1,good-good:2,panics-panics:1" {
			t.Errorf("when all behave: %s", got)
		}
		if log.Count("returned after all") != 1 {
			t.Errorf("log: %s", log.String())
		}
	})
}

// TestCollectorsMayUseTheRelay: Collect may call the relay's methods, because no lock is held then.
func TestCollectorsMayUseTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
		p := s.accept()
		add(t, r, "once", relay.NewPointCollector(func() float64 {
			r.RemoveCollector("once")
			if err := r.AddCollector("next", nil, point(2)); err != nil {
				t.Error(err)
			}
			return float64(len(r.Info())) + float64(r.State().Connects)
		}))
		p.expect("add once:")
		p.say("get once")
		p.expect("remove once", "add next:", "got once-once:2")
		if got := p.poll("next"); got != "next-next:2" {
			t.Errorf("%s", got)
		}
	})
}
