package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relay"
)

// rising is a collector whose values are never the same: 1, 2, 3 and so on.
type rising struct{ n atomic.Int64 }

func (c *rising) Collect() map[string]float64 { return map[string]float64{"": float64(c.n.Add(1))} }

// now is the relay's clock on the wire.
func now() string { return fmt.Sprint(time.Now().UnixMilli()) }

func TestSpoolConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, Spool: &relay.SpoolOptions{}})
		id := r.State().Spool.ID
		add(t, r, "cpu", &rising{})
		p := s.accept()
		p.expect("add cpu:")

		// A server that does not take records gets plain answers, and nothing waits.
		if got := p.poll("cpu"); got != "cpu-cpu:1" {
			t.Errorf("got %s", got)
		}
		p.say("takes tea,past,cake")
		p.expect("spool " + id + " 0 0 " + now())
		// Nothing is handed over before the first recall.
		p.say("get cpu")
		p.expect("got")
		p.say("recall 0")
		p.expect("spool " + id + " 1 0 " + now())
		p.say("get cpu")
		p.expect("took 2 2 cpu-cpu:3")
		p.say("get cpu", "get cpu,cpu,gone")
		p.expect("took 2 3 cpu-cpu:4", "took 2 4 cpu-cpu:5")
		if got := p.poll("gone"); got != "" {
			t.Errorf("got %s", got)
		}
		p.say("kept "+id+" 2-3", "kept 00000000 1-9", "kept nonsense", "recall many")

		// A poll that is overdue: the relay collects by itself, and does not say so, because the
		// server knows that something waits. The record after that belongs to another run, and this
		// one is not kept yet, so it waits too.
		p.say("get cpu")
		p.expect("took 2 5 cpu-cpu:6")
		p.alive.Store(true)
		taken := time.Now().Add(65 * time.Second).UnixMilli()
		time.Sleep(66 * time.Second)
		later := now()
		p.say("kept " + id + " 4-4")
		p.say("get cpu")
		for range p.lines { // by the kept line before the poll, the journal did not take 5
		}
		p = s.accept()
		p.expect("add cpu:")
		p.say("takes past")
		p.expect("spool " + id + " 4 0 " + now())
		p.say("kept "+id+" 2-5", "recall 0")
		p.say("get cpu")
		p.expect("took 8 8 cpu-cpu:9")
		p.say("recall 2")
		p.expect(fmt.Sprintf("past 6 6 %d cpu-cpu:7", taken), "past 6 7 "+later+" cpu-cpu:8", "spool "+id+" 3 0 "+now())
		if st := r.State().Spool; st.Collected != 1 || st.Recalled != 2 || st.Waiting != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestSpoolRefused: a kept line that begins after sent records makes those wait.
func TestSpoolRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, Spool: &relay.SpoolOptions{}})
		id := r.State().Spool.ID
		add(t, r, "cpu", &rising{})
		p := s.accept()
		p.expect("add cpu:")
		p.say("takes past")
		p.expect("spool " + id + " 0 0 " + now())
		p.say("recall 0", "get cpu", "get cpu", "get cpu")
		p.expect("took 1 1 cpu-cpu:1", "took 1 2 cpu-cpu:2", "took 1 3 cpu-cpu:3")
		p.say("kept " + id + " 1-1")
		p.say("kept " + id + " 3-3")
		p.expect("spool " + id + " 1 0 " + now())
		p.say("get cpu")
		p.expect("took 3 4 cpu-cpu:4")
		p.say("recall 9")
		p.expect("past 2 2 "+now()+" cpu-cpu:2", "spool "+id+" 1 0 "+now())
		// The journal does not take it this time either.
		p.say("recall 9")
		p.expect("past 2 2 "+now()+" cpu-cpu:2", "spool "+id+" 1 0 "+now())
		p.say("kept "+id+" 2-2", "recall 9")
		p.expect("spool " + id + " 0 0 " + now())
		p.hangUp()

		// On the next connection, what no kept line names waits.
		p = s.accept()
		p.expect("add cpu:")
		p.say("takes past")
		p.expect("spool " + id + " 1 0 " + now())
		p.say("kept "+id+" 3-4", "recall 5")
		p.expect("spool " + id + " 0 0 " + now())
		if st := r.State().Spool; st.Recalled != 2 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestSpoolLongAnswer: what does not fit in one line is several records of one time.
func TestSpoolLongAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, Spool: &relay.SpoolOptions{}})
		values := map[string]float64{}
		for i := range 3000 {
			values[fmt.Sprintf("%s%d", strings.Repeat("x", 50), i)] = 1
		}
		add(t, r, "many", relay.NewSetCollector(func() map[string]float64 { return values }))
		p := s.accept()
		p.expect("add many:")
		p.say("takes past")
		p.line()
		p.say("recall 0", "get many")
		n := 0
		for seq := 1; n < len(values); seq++ {
			line, _ := p.line()
			rest, ok := strings.CutPrefix(line, fmt.Sprintf("took 1 %d ", seq))
			if !ok || len(line) >= relaywire.MaxLine {
				t.Fatalf("%.60s of %d bytes", line, len(line))
			}
			n += strings.Count(rest, ":")
		}
		if n != len(values) {
			t.Errorf("%d values", n)
		}
	})
}

func TestSpoolOptions(t *testing.T) {
	dir := t.TempDir()
	start(t, relay.Options{Address: "127.0.0.1:1", Spool: &relay.SpoolOptions{Dir: dir}})
	_, err := relay.New(relay.Options{Address: "127.0.0.1:1", ID: "web1", Spool: &relay.SpoolOptions{Dir: dir}})
	if !errors.Is(err, relay.ErrSpoolInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory in use: %v", err)
	}
	if _, err := relay.New(relay.Options{Address: "127.0.0.1:1", ID: "web1", Spool: &relay.SpoolOptions{MaxBytes: -1}}); !errors.Is(err, relay.ErrOptions) {
		t.Errorf("a negative bound: %v", err)
	}
}

// TestSpoolIntervals: without a server each collector is collected at the interval at which it was
// last polled, also after a restart.
func TestSpoolIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		up.Store(true)
		s := pipes(t)
		o := relay.Options{Address: s.addr, ID: "web1", Spool: &relay.SpoolOptions{Dir: t.TempDir()}, Dial: func(ctx context.Context, a string) (net.Conn, error) {
			if !up.Load() {
				return nil, errors.New("nobody there")
			}
			return s.dial(ctx, a)
		}}
		r := start(t, o)
		var fast, slow, never rising
		add(t, r, "fast", &fast)
		add(t, r, "slow", &slow)
		add(t, r, "never", &never)
		p := s.accept()
		p.alive.Store(true)
		p.expect("add fast:", "add never:", "add slow:")
		p.say("takes past")
		p.line()
		p.say("recall 0")
		for i := range 30 {
			names := "fast"
			if i%10 == 9 {
				names = "fast,slow"
			}
			p.say("get " + names)
			line, _ := p.line()
			p.say("kept " + r.State().Spool.ID + " 1-" + strings.Fields(line)[2])
			time.Sleep(time.Second + time.Duration(rand.IntN(40)-20)*time.Millisecond)
		}
		if got := never.n.Load() + int64(r.State().Spool.Waiting); got != 0 {
			t.Errorf("%d collections that nobody asked for", got)
		}
		up.Store(false)
		p.hangUp()
		check := func() {
			t.Helper()
			f, s, n := fast.n.Load(), slow.n.Load(), never.n.Load()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			f, s, n = fast.n.Load()-f, slow.n.Load()-s, never.n.Load()-n
			if f < 598 || f > 601 || s < 58 || s > 61 || n < 8 || n > 10 {
				t.Errorf("in ten minutes: %d, %d and %d collections", f, s, n)
			}
		}
		check()
		r.Close()
		r = start(t, o)
		add(t, r, "fast", &fast)
		add(t, r, "slow", &slow)
		add(t, r, "never", &never)
		check()
		st := r.State().Spool
		if st.Waiting < 1196 || st.Dropped != 0 || st.Failures != 0 {
			t.Errorf("%+v", st)
		}
	})
}
