package ingest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// TestHostileRelays: whatever one connection does, an honest relay beside it is polled on time and
// loses nothing, and the server closes the hostile connection within a minute and a half.
func TestHostileRelays(t *testing.T) {
	for name, c := range map[string]struct {
		// attack misbehaves until stop is closed or its writes fail.
		attack func(w *world, stop <-chan struct{})
		metric []string // with at least one count afterwards
	}{
		"never says anything": {func(w *world, stop <-chan struct{}) {
			c := w.ln.dial()
			defer c.Close()
			<-stop
		}, []string{"connections_refused_total", "reason", refusedTimeout}},
		"says its id one byte a second": {func(w *world, stop <-chan struct{}) {
			c := w.ln.dial()
			defer c.Close()
			for _, b := range []byte("id a-very-long-name-that-takes-its-time\n") {
				if _, err := c.Write([]byte{b}); err != nil {
					break
				}
				time.Sleep(time.Second)
			}
			<-stop
		}, []string{"connections_refused_total", "reason", refusedTimeout}},
		"endless first line": {endless(""), []string{"connections_refused_total", "reason", refusedLine}},
		"endless line":       {endless("id bad\nadd a\n"), []string{"disconnections_total", "reason", endLine}},
		"64 KiB lines": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\n")
			defer c.Close()
			line := "got a-" + strings.Repeat("x", relaywire.MaxLine-20) + ":1\n"
			for i := 0; i < 50; i++ {
				io.WriteString(c, line)
				time.Sleep(time.Second)
			}
			<-stop
		}, []string{"readings_rejected_total", "reason", "bad_name"}},
		"half a line, then nothing": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\ngot a:1,a-b:")
			defer c.Close()
			<-stop
		}, []string{"disconnections_total", "reason", endSilent}},
		"half lines, one byte every ten seconds": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\n")
			defer c.Close()
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					break
				}
				time.Sleep(10 * time.Second)
			}
			<-stop
		}, []string{"disconnections_total", "reason", endSilent}},
		"garbage": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\n")
			defer c.Close()
			rng := rand.New(rand.NewPCG(9, 9))
			for range 1000 {
				b := make([]byte, rng.IntN(300))
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				c.Write(append(b, '\n'))
			}
			<-stop
		}, []string{"commands_ignored_total"}},
		"answers nothing and reads nothing": {func(w *world, stop <-chan struct{}) {
			c := w.ln.dial()
			defer c.Close()
			io.WriteString(c, "id bad\nadd a\n")
			<-stop
		}, []string{"disconnections_total", "reason", endStuck}},
		"asks and never reads the answers": {func(w *world, stop <-chan struct{}) {
			c := w.ln.dial()
			defer c.Close()
			io.WriteString(c, "id bad\n")
			for {
				if _, err := io.WriteString(c, strings.Repeat("ping\n", 1000)); err != nil {
					break
				}
			}
			<-stop
		}, []string{"disconnections_total", "reason", endStuck}},
		"pings without end": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\n")
			defer c.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				io.WriteString(c, strings.Repeat("ping\n", 100))
				time.Sleep(100 * time.Millisecond)
			}
		}, nil},
		"flaps": {func(w *world, stop <-chan struct{}) {
			for i := 0; i < 500; i++ {
				c := talk(w, "id bad\nadd a\n")
				time.Sleep(100 * time.Millisecond)
				c.Close()
			}
			<-stop
		}, []string{"disconnections_total", "reason", endLost}},
		"flaps with ever new ids": {func(w *world, stop <-chan struct{}) {
			for i := 0; i < 500; i++ {
				c := talk(w, fmt.Sprintf("id bad%d\nadd a\n", i))
				time.Sleep(50 * time.Millisecond)
				c.Close()
			}
			<-stop
		}, []string{"relays_forgotten_total"}},
		"adds without end": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\n")
			defer c.Close()
			for i := range 5000 {
				fmt.Fprintf(c, "add c%d\n", i)
			}
			<-stop
		}, []string{"requests_refused_total", "reason", deniedCollectors}},
		"stats without end": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\n")
			defer c.Close()
			for i := range 20_000 {
				fmt.Fprintf(c, "got a-s%d:1\n", i)
			}
			<-stop
		}, []string{"requests_refused_total", "reason", deniedSeries}},
		"silent once it is known": {func(w *world, stop <-chan struct{}) {
			c := talk(w, "id bad\nadd a\n")
			defer c.Close()
			<-stop
		}, []string{"disconnections_total", "reason", endSilent}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *Options) {
					o.PollInterval, o.Limits.Known = 5*time.Second, 10
				})
				honest := w.connect("good")
				honest.add("a")
				stop, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					c.attack(w, stop)
				}()
				n, _ := honest.polls("a", 90*time.Second)
				if n < 17 || n > 20 {
					t.Errorf("the honest relay was polled %d times in 90 s at 5 s", n)
				}
				if c.metric != nil {
					if got := w.metric(c.metric[0], c.metric[1:]...); got < 1 {
						t.Errorf("%v = %v, want it counted", c.metric, got)
					}
				}
				r := w.relay("good")
				if !r.Connected || r.Skipped+r.Unanswered != 0 || r.Rejected != 0 {
					t.Errorf("the honest relay: %+v", r)
				}
				w.wantMetric(0, "connections_unidentified")
				close(stop)
				<-done
			})
		})
	}
}

// talk connects, sends text and discards everything that comes back.
func talk(w *world, text string) io.WriteCloser {
	c := w.ln.dial()
	go io.Copy(io.Discard, c)
	io.WriteString(c, text)
	return c
}

func endless(first string) func(*world, <-chan struct{}) {
	return func(w *world, stop <-chan struct{}) {
		c := talk(w, first)
		defer c.Close()
		for {
			if _, err := io.WriteString(c, strings.Repeat("x", 1024)); err != nil {
				break
			}
		}
		<-stop
	}
}

func TestErrorLineArrivesBeforeTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		start := time.Now()
		io.WriteString(p.conn, strings.Repeat("x", relaywire.MaxLine))
		p.want("error line longer than 64 KiB: split the list over several lines")
		p.wantClosed()
		if d := time.Since(start); d > 2*lingerTimeout {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestAnyLineKeepsARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		for range 20 {
			time.Sleep(59 * time.Second)
			p.send("nonsense")
		}
		settle()
		if !w.relay("web1").Connected {
			t.Error("it was disconnected though it said something every 59 s")
		}
		start := time.Now()
		p.want("error nothing heard for 1m0s: send ping every 30s")
		if d := time.Since(start); d != time.Minute {
			t.Errorf("closed after %v of silence, want two beats", d)
		}
		p.wantClosed()
	})
}

// TestQueueIsBounded: lines that are not caused by the relay itself cannot pile up in its queue.
func TestQueueIsBounded(t *testing.T) {
	s, _ := benchSession(t, Options{})
	s.writing = true // and blocked
	line := []byte(strings.Repeat("x", 1024) + "\n")
	sent := 0
	for s.send(line) {
		if sent += len(line); sent > 2*maxQueue {
			t.Fatalf("%d bytes are queued and it goes on", sent)
		}
	}
	if s.ending != endStuck || sent < maxQueue-len(line) {
		t.Errorf("ended for %q after %d bytes, want stuck after %d", s.ending, sent, maxQueue)
	}
	if _, err := s.raw.Write(line); err == nil {
		t.Error("the connection of a stuck relay is still open")
	}
}
