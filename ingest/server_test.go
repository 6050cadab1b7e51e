package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/journal/codec"
)

func TestRelayLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Limits.Relays = 2 })
		a := w.connect("a")
		w.connect("b")
		c := w.dial()
		c.send("id c")
		c.want("error too many relays: the limit is 2")
		c.wantClosed()
		again := w.connect("b") // replaces its own connection
		w.wantMetric(1, "connections_refused_total", "reason", refusedRelays)
		a.send("close")
		a.wantClosed()
		settle()
		w.connect("c")
		w.wantMetric(2, "relays_connected")
		again.send("ping")
		again.want("pong")
	})
}

func TestUnidentifiedLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Limits.Unidentified = 3 })
		a := w.connect("a")
		var silent []*peer
		for range 3 {
			silent = append(silent, w.dial())
		}
		settle()
		w.wantMetric(3, "connections_unidentified")
		p := w.dial()
		p.want("error too many connections: 3 have not said their id yet")
		p.wantClosed()
		w.wantMetric(1, "connections_refused_total", "reason", refusedUnidentified)
		// Many connections at once, more than get an error line: all are closed.
		for range maxRefusals + 50 {
			conn := w.ln.dial()
			defer conn.Close()
		}
		settle()
		w.wantMetric(float64(maxRefusals+51), "connections_refused_total", "reason", refusedUnidentified)
		a.send("ping")
		a.want("pong")
		time.Sleep(identifyTimeout + lingerTimeout)
		for _, s := range silent {
			s.want("error no id within 10s: send id {id} first")
		}
		settle()
		w.wantMetric(0, "connections_unidentified")
		w.connect("b")
	})
}

func TestTokenIsNotInTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Token = "s3cret" })
		for _, line := range []string{"id web1 wrong", "id web1 s3cret2", "id web1 token:s3cre", "id web1 s3cre", "id web1 S3CRET"} {
			p := w.dial()
			p.send(line)
			p.want("error wrong token: send id {id} {token}")
			p.wantClosed()
		}
		for _, line := range []string{"id web1", "id s3cret", "id web1 token:"} {
			p := w.dial()
			p.send(line)
			p.want("error missing token: send id {id} token:{token}")
			p.send(line)
			p.want("error missing token: send id {id} token:{token}")
			p.wantClosed()
		}
		settle()
		w.wantMetric(5, "connections_refused_total", "reason", refusedToken)
		w.wantMetric(3, "connections_refused_total", "reason", refusedNoToken)
		p := w.dial()
		p.send("id web1")
		p.want("error missing token: send id {id} token:{token}")
		p.send("id web1 token:s3cret")
		p.want("ok")
		if r := w.srv.Relays(); len(r) != 1 || r[0].ID != "web1" {
			t.Errorf("Relays %v, want web1", r)
		}
	})
}

func TestAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logtest.Buffer{}
		w := &world{t: t, path: t.TempDir() + "/pulse.db", journal: &fakeJournal{}}
		ln := newPipes()
		var mu sync.Mutex
		broken := true
		ln.fail = func() error {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return &net.OpError{Op: "accept", Err: syscall.EMFILE}
			}
			return nil
		}
		w.opt = Options{Listener: ln, Logger: slog.New(slog.NewTextHandler(log, nil))}
		w.start()
		t.Cleanup(w.stop)
		w.ln = ln
		time.Sleep(150 * time.Second)
		settle()
		if n := w.metric("accept_errors_total"); n < 140 || n > 200 {
			t.Errorf("%v failed accepts in 150 s, want one every 0.8 to 1 s", n)
		}
		if n := log.Count("cannot accept relays"); n != 3 {
			t.Errorf("%d log lines in 150 s, want one a minute", n)
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		w.connect("web1")
	})
}

func TestListenerClosedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p := w.connect("web1")
		w.ln.Close()
		settle()
		p.add("a")
		p.want("get a") // connected relays are still served
		w.wantMetric(1, "accept_errors_total")
	})
}

func TestStopTakesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		asked, idle, slow := w.connect("asked"), w.connect("idle"), w.connect("slow")
		asked.add("a")
		slow.add("a")
		idle.add("a")
		for _, p := range []*peer{asked, slow, idle} {
			p.want("get a")
		}
		idle.send("got a:1")
		settle()
		stopped := make(chan error)
		start := time.Now()
		go func() { stopped <- w.srv.Stop(t.Context()) }()
		time.Sleep(500 * time.Millisecond)
		asked.send("got a:2")
		if err := <-stopped; err != nil {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(start); d < 500*time.Millisecond || d > drainGrace+lingerTimeout {
			t.Errorf("Stop took %v, want a second for the one that does not answer", d)
		}
		for _, p := range []*peer{asked, slow, idle} {
			p.wantClosed()
		}
		if got := w.journal.readings; got != 2 {
			t.Errorf("%d readings in the journal, want 2: the answer that was under way too", got)
		}
		for _, id := range []string{"asked", "idle", "slow"} {
			if got, want := w.journal.kinds(id), []string{"connected", "added:a", "disconnected:stopped"}; !slices.Equal(got, want) {
				t.Errorf("relay events of %s: %v, want %v", id, got, want)
			}
		}
		if err := w.srv.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
		if n := w.srv.Flush(nil); n != 0 {
			t.Errorf("Flush after Stop told %d relays", n)
		}
	})
}

// TestStopCutsOffInTime: a journal that blocks and a relay that does not read cannot keep Stop from
// ending.
func TestStopCutsOffInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &fakeJournal{append: func(ctx context.Context, _ *codec.Event) error { <-ctx.Done(); return ctx.Err() }}
		w := newWorld(t, func(o *Options) { o.Journal = j })
		blocked := w.connect("blocked")
		blocked.add("a")
		blocked.send("got a:1")
		stuck := w.ln.dial()
		defer stuck.Close()
		stuck.Write([]byte("id stuck\n"))
		settle()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := w.srv.Stop(ctx)
		var typed *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &typed) || typed.Op != "stop" {
			t.Errorf("Stop: %v, want a deadline error", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("Stop took %v, want its 3 s", d)
		}
		if got := counterValue(t, w.srv.env.m.lost); got != 1 {
			t.Errorf("%v readings lost, want 1", got)
		}
		if again := w.srv.Stop(t.Context()); !errors.Is(again, context.DeadlineExceeded) {
			t.Errorf("second Stop: %v, want the same", again)
		}
		w.close()
	})
}

func TestStopWithChattyRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		chatty := talk(w, "id chatty\nadd a\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				if _, err := fmt.Fprint(chatty, "got a:1\n"); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(time.Second)
		start := time.Now()
		if err := w.srv.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(start); d > 2*drainGrace {
			t.Errorf("Stop took %v with a relay that never stops talking", d)
		}
		<-done
	})
}

func TestStopBeforeStart(t *testing.T) {
	db, err := bolt.Open(t.TempDir()+"/pulse.db", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ln := newPipes()
	srv, err := New(Options{Listener: ln, Journal: &fakeJournal{}, DB: db})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	srv.Start() // too late: does nothing
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartTwiceStopAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.srv.Start()
		w.connect("web1")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := w.srv.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestStopWhileConnecting: connections that arrive while the server stops are closed, and no
// goroutine or connection is left.
func TestStopWhileConnecting(t *testing.T) {
	for range 20 {
		db, err := bolt.Open(t.TempDir()+"/pulse.db", 0o600, &bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv, err := New(Options{Listener: ln, Journal: &fakeJournal{}, DB: db})
		if err != nil {
			t.Fatal(err)
		}
		srv.Start()
		var wg sync.WaitGroup
		ready := make(chan struct{}, 1000)
		for i := range 20 {
			wg.Go(func() {
				for {
					c, err := net.Dial("tcp", srv.Addr().String())
					if err != nil {
						return
					}
					fmt.Fprintf(c, "id relay-%d\nadd a\n", i)
					c.SetReadDeadline(time.Now().Add(5 * time.Second))
					c.Read(make([]byte, 10))
					c.Close()
					select {
					case ready <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 50 {
			<-ready
		}
		if err := srv.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := func() Options {
		return Options{Listener: newPipes(), Journal: &fakeJournal{}, DB: new(bolt.DB)}
	}
	for name, change := range map[string]func(*Options){
		"Listener":            func(o *Options) { o.Listener = nil },
		"Journal":             func(o *Options) { o.Journal = nil },
		"DB":                  func(o *Options) { o.DB = nil },
		"PollInterval":        func(o *Options) { o.PollInterval = -1 },
		"BeatInterval":        func(o *Options) { o.BeatInterval = time.Millisecond },
		"Token":               func(o *Options) { o.Token = "two words" },
		"Limits.Relays":       func(o *Options) { o.Limits.Relays = -1 },
		"Limits.Unidentified": func(o *Options) { o.Limits.Unidentified = -1 },
		"Limits.Collectors":   func(o *Options) { o.Limits.Collectors = -1 },
		"Limits.Series":       func(o *Options) { o.Limits.Series = -1 },
		"Limits.Known":        func(o *Options) { o.Limits.Known = -1 },
		"Limits.KnownFor":     func(o *Options) { o.Limits.KnownFor = -1 },
	} {
		o := good()
		change(&o)
		_, err := New(o)
		var typed *Error
		if !errors.Is(err, ErrInvalid) || !errors.As(err, &typed) || typed.Subject != name {
			t.Errorf("%s: %v, want ErrInvalid about it", name, err)
		}
	}
}

// TestNewLeavesNothingBehind: after a New that failed, New can be called again with the same
// registerer.
func TestNewLeavesNothingBehind(t *testing.T) {
	reg := prometheus.NewRegistry()
	o := Options{Listener: newPipes(), Journal: &fakeJournal{}, DB: closedDB(t), Registerer: reg}
	var typed *Error
	if _, err := New(o); !errors.As(err, &typed) || typed.Op != "registry" {
		t.Fatalf("New on a closed state file: %v", err)
	}
	db, err := bolt.Open(t.TempDir()+"/pulse.db", 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	o.DB = db
	if _, err := New(o); err != nil {
		t.Fatalf("New after a failed one: %v", err)
	}
	if _, err := New(o); !errors.As(err, &typed) || typed.Subject != "Registerer" {
		t.Fatalf("a second server with the same registerer: %v", err)
	}
}

func TestTwoServersInOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newWorld(t, nil), newWorld(t, nil)
		pa, pb := a.connect("web1"), b.connect("web1")
		pa.add("x")
		pb.add("y")
		pa.want("get x")
		pb.want("get y")
		a.wantMetric(1, "relays_connected")
		b.wantMetric(1, "relays_connected")
	})
}
