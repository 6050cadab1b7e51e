package relay_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/relaywire/relay"
)

// TestHeartbeat: the relay pings every beat, whatever other lines are sent. If no line comes within
// half a beat of a ping, the connection ends.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
		p := s.accept()
		began := time.Now()
		for n := 1; n <= 3; n++ {
			line := <-p.lines
			if at := time.Since(began); line != "ping" || at != time.Duration(n)*30*time.Second {
				t.Fatalf("%q after %v", line, at)
			}
			time.Sleep(10 * time.Second) // less than half a beat: a slow pong
			p.say("pong")
		}
		p.say("beat 4")
		// The last ping was more than a beat ago.
		if line := <-p.lines; line != "ping" || time.Since(began) != 100*time.Second {
			t.Fatalf("after another beat: %q after %v", line, time.Since(began))
		}
		p.say("ok") // any line is a sign of life
		if line := <-p.lines; line != "ping" || time.Since(began) != 104*time.Second {
			t.Fatalf("%q after %v", line, time.Since(began))
		}
		p.expectHangUp()
		if at := time.Since(began); at != 106*time.Second {
			t.Errorf("hung up after %v", at)
		}
		synctest.Wait()
		if st := r.State(); st.Connected || !errors.Is(st.LastError, relay.ErrSilent) {
			t.Errorf("%+v", st)
		}
		s.accept()
	})
}

// TestPauses: pauses are short for a minute, longer later, and short again after a session that
// lasted.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time // written by the relay's goroutine until the server is up, then by the test's
		var up atomic.Bool
		s := pipes(t)
		var log logtest.Buffer
		r := start(t, relay.Options{Address: s.addr, Logger: log.Logger(), Dial: func(ctx context.Context, a string) (net.Conn, error) {
			if up.Load() {
				return s.dial(ctx, a)
			}
			attempts = append(attempts, time.Now())
			return nil, errors.New("nobody there")
		}})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		up.Store(true)
		p := s.accept()
		for i := 1; i < len(attempts); i++ {
			pause, outage := attempts[i].Sub(attempts[i-1]), attempts[i].Sub(attempts[0])
			limit := 5 * time.Second
			if outage < time.Minute {
				limit = 500 * time.Millisecond
			}
			if pause > limit || pause < 25*time.Millisecond {
				t.Errorf("a pause of %v after %v", pause, outage)
			}
		}
		// 120 to 240 in the first minute, 108 to 216 in the next nine, and the first few.
		if n := len(attempts); n < 220 || n > 470 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if n := log.Count("not connected"); n < 9 || n > 11 {
			t.Errorf("%d lines in the log of ten minutes", n)
		}
		time.Sleep(6 * time.Second)
		p.hangUp()
		lost := time.Now()
		s.accept()
		if took := time.Since(lost); took > 50*time.Millisecond {
			t.Errorf("after a session that lasted, the first pause is %v", took)
		}
		synctest.Wait()
		if n := log.Count("msg=\"relay: connected"); n != 2 {
			t.Errorf("connected %d times in the log", n)
		}
		r.Close()
	})
}

// TestSentAway: a server that ends every session at once with an error line is not flooded with
// connections.
func TestSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		var log logtest.Buffer
		start(t, relay.Options{Address: s.addr, Dial: s.dial, Logger: log.Logger()})
		began, n := time.Now(), 0
		for ; time.Since(began) < 10*time.Minute; n++ {
			p := s.accept()
			p.say("error replaced")
			p.hangUp()
		}
		if n < 110 || n > 250 {
			t.Errorf("%d sessions in ten minutes", n)
		}
		if lost, found := log.Count("not connected"), log.Count("msg=\"relay: connected"); lost > 11 || found > 11 || lost < 9 {
			t.Errorf("%d and %d lines in the log", lost, found)
		}
	})
}

// TestSilentWelcome: the relay leaves a server that accepts and sends nothing after the dial
// timeout.
func TestSilentWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, DialTimeout: 3 * time.Second})
		p := s.next()
		p.expect("id web1")
		began := time.Now()
		p.expectHangUp()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("left after %v", took)
		}
		s.next()
		if err := r.State().LastError; !errors.Is(err, relay.ErrSilent) {
			t.Errorf("%v", err)
		}
		r.Close() // while the second welcome is awaited
	})
}

// TestServerThatDoesNotRead: the relay leaves a server that has not read its lines for the write
// timeout. The heartbeat does not notice such a server: it needs an answer only half a beat after a
// ping, and the ping was never sent.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 10)
		r := start(t, relay.Options{Address: "pipe", Dial: func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			conns <- theirs
			return ours, nil
		}})
		conn := <-conns
		defer conn.Close()
		buf := make([]byte, 100)
		conn.Read(buf)
		conn.Write([]byte("ok\n"))
		wait(t, r)
		began := time.Now()
		add(t, r, "cpu", point(1))
		(<-conns).Close()
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("left after %v", took)
		}
		r.RemoveCollector("cpu") // none of this blocks it
	})
}

// TestServerThatPollsButDoesNotRead: such a server cannot make the relay hold more and more
// answers.
func TestServerThatPollsButDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 10)
		r := start(t, relay.Options{Address: "pipe", Dial: func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			conns <- theirs
			return ours, nil
		}})
		many := map[string]float64{}
		for i := range 5000 {
			many[strings.Repeat("x", 200)+strconv.Itoa(i)] = 1
		}
		add(t, r, "big", relay.NewSetCollector(func() map[string]float64 { return maps.Clone(many) }))
		conn := <-conns
		defer conn.Close()
		conn.Read(make([]byte, 100))
		conn.Write([]byte("ok\n"))
		began, asked := time.Now(), 0
		for ; ; asked++ {
			if _, err := conn.Write([]byte("get big\n")); err != nil {
				break
			}
			synctest.Wait()
		}
		if asked < 5 || asked > 20 || time.Since(began) > time.Second {
			t.Errorf("hung up after %d polls, %v", asked, time.Since(began))
		}
		next := <-conns
		if err := r.State().LastError; !errors.Is(err, relay.ErrSlow) {
			t.Errorf("%v", err)
		}
		next.Close()
	})
}

// TestCloseNamesWhatIsStuck: Close names the stuck collectors and does not wait for ever.
func TestCloseNamesWhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial, CollectTimeout: time.Second})
		p := s.accept()
		release := make(chan struct{})
		for _, name := range []string{"a", "b"} {
			add(t, r, name, relay.NewPointCollector(func() float64 { <-release; return 1 }))
		}
		add(t, r, "c", relay.Sample(relay.NewPointCollector(func() float64 { time.Sleep(time.Millisecond); return 1 }), 10*time.Millisecond, relay.Mean()))
		p.expect("add a:", "add b:", "add c:")
		p.say("get a,b,c")
		synctest.Wait()
		r.RemoveCollector("b")
		p.expect("remove b")
		began := time.Now()
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- r.Close() }()
		}
		p.expect("remove a", "remove c", "close")
		for range 2 {
			var typed *relay.Error
			if err := <-closed; !errors.Is(err, relay.ErrStuck) || !errors.As(err, &typed) || typed.Subject != "a, b" {
				t.Errorf("%v", err)
			}
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("Close took %v", took)
		}
		close(release)
		if err := r.Close(); !errors.Is(err, relay.ErrStuck) {
			t.Errorf("the second time: %v", err)
		}
	})
}

// TestCloseOfADeafServer: a server that has stopped reading delays Close for two seconds only.
func TestCloseOfADeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 1)
		r := start(t, relay.Options{Address: "pipe", Dial: func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			conns <- theirs
			return ours, nil
		}})
		conn := <-conns
		defer conn.Close()
		conn.Read(make([]byte, 100))
		conn.Write([]byte("ok\n"))
		wait(t, r)
		began := time.Now()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

// TestTooManyPolls: a server that polls faster than the relay answers gets some answers, and the
// relay counts the other polls.
func TestTooManyPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pipes(t)
		r := start(t, relay.Options{Address: s.addr, Dial: s.dial})
		p := s.accept()
		p.alive.Store(true)
		add(t, r, "slow", relay.NewPointCollector(func() float64 { time.Sleep(time.Second); return 1 }))
		p.expect("add slow:")
		for range 100 {
			p.say("get slow")
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if st := r.State(); st.Polls != 65 || st.Skipped != 35 || !st.Connected {
			// One being answered and 64 waiting.
			t.Errorf("%+v", st)
		}
	})
}
