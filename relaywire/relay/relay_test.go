package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/logtest"
	"github.com/nanopack/pulse/relaywire/relay"
)

// TestReleasedServer talks to a server that behaves like a released Pulse 0.2.3: it answers the id
// with ok and a beat, does not answer add and remove, and closes the connection at close.
func TestReleasedServer(t *testing.T) {
	s, _ := listen(t, "")
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := s.accept()
		p.expect("add cpu_used:service:web1,guy")
		p.expect("add disk:")
		if got := p.poll("cpu_used,disk"); got != "cpu_used-cpu_used:25.5,disk-sda:50,disk-sdb:0.1" {
			t.Errorf("got %s", got)
		}
		// An old server sends lines that the relay does not know, and polls collectors that do not
		// exist.
		p.say("hello", "ok", "pong", "")
		if got := p.poll("disk,gone,cpu_used,disk"); got != "disk-sda:50,disk-sdb:0.1,cpu_used-cpu_used:25.5" {
			t.Errorf("got %s", got)
		}
		p.expect("remove disk")
		if got := p.poll("disk"); got != "" {
			t.Errorf("got %s from a collector that was removed", got)
		}
		p.expect("remove cpu_used", "close")
		p.hangUp()
	}()
	r, err := relay.NewRelay(s.addr, "web1")
	if err != nil {
		t.Fatal(err)
	}
	add(t, r, "cpu_used", point(25.5), "", "service:web1", "guy")
	add(t, r, "disk", relay.NewSetCollector(func() map[string]float64 { return map[string]float64{"sdb": 0.1, "sda": 50} }))
	eventually(t, "two polls are answered", func() bool { return r.State().Polls == 2 })
	if st := r.State(); !st.Connected || st.Connects != 1 || st.Readings != 6 || st.LastError != nil {
		t.Errorf("%+v", st)
	}
	if i := info(t, r, "cpu_used"); !slices.Equal(i.Tags, []string{"service:web1", "guy"}) || i.Values["cpu_used"] != 25.5 || i.Collections != 2 || i.Answered.IsZero() {
		t.Errorf("%+v", i)
	}
	r.RemoveCollector("disk")
	r.RemoveCollector("never was")
	eventually(t, "the third poll is answered", func() bool { return r.State().Polls == 3 })
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	<-done
	if len(r.Info()) != 0 || r.State().Connected {
		t.Errorf("after Close: %v, %+v", r.Info(), r.State())
	}
}

// TestTodaysServer is the same with a server that answers everything and uses every verb that it
// may send.
func TestTodaysServer(t *testing.T) {
	s, _ := listen(t, "")
	r := start(t, relay.Options{Address: s.addr})
	add(t, r, "cpu", point(1)) // before the welcome
	p := s.accept()
	p.expect("add cpu:")
	p.say("ok")
	add(t, r, "ram", point(2)) // after it
	p.expect("add ram:")
	p.say("ok")
	if got := p.poll("cpu,ram"); got != "cpu-cpu:1,ram-ram:2" {
		t.Errorf("got %s", got)
	}
	p.say("flush")
	p.expect("ok")
	p.say("override 60 cpu:1,gone:5")
	p.expect("ok")
	if i := info(t, r, "cpu"); i.Interval != time.Second || time.Until(i.OverriddenUntil) > time.Minute || time.Until(i.OverriddenUntil) < 50*time.Second {
		t.Errorf("overridden: %+v", i)
	}
	p.say("override sixty cpu:1", "beat nonsense", "beat 7")
	eventually(t, "the beat is taken over", func() bool { return r.State().Beat == 7*time.Second })
	// An error line does not end the session by itself: one collector too many does not harm the
	// others.
	p.say("error too many collectors")
	if got := p.poll("cpu"); got != "cpu-cpu:1" {
		t.Errorf("got %s", got)
	}
	if st := r.State(); !st.Connected || st.Complaints != 1 || !errors.Is(st.LastError, relay.ErrRefused) || !strings.Contains(st.LastError.Error(), "too many collectors") {
		t.Errorf("%+v", st)
	}
	p.say("error replaced")
	p.hangUp()
	p = s.accept()
	p.expect("add cpu:", "add ram:")
	if err := r.State().LastError; !errors.Is(err, relay.ErrRefused) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("last error %v", err)
	}
	p.say("ok", "ok")
	go r.Close()
	p.expect("remove cpu", "remove ram", "close")
}

// TestServerRestart: after a second without a server on the port, the relay reconnects and adds
// everything again.
func TestServerRestart(t *testing.T) {
	s, stop := listen(t, "")
	r := start(t, relay.Options{Address: s.addr})
	add(t, r, "cpu", point(1), "a", "b:c")
	add(t, r, "ram", point(2))
	s.accept().hangUp()
	stop()
	eventually(t, "the loss is noticed", func() bool { return !r.State().Connected })
	r.RemoveCollector("ram")
	add(t, r, "load", point(3))
	time.Sleep(time.Second) // the outage itself, not a way to wait for something
	s, _ = listen(t, s.addr)
	p := s.accept()
	p.expect("add cpu:a,b:c", "add load:")
	if got := p.poll("cpu,ram,load"); got != "cpu-cpu:1,load-load:3" {
		t.Errorf("got %s", got)
	}
	if st := r.State(); st.Connects != 2 || st.LastError == nil {
		t.Errorf("%+v", st)
	}
}

func TestAddCollectorRefuses(t *testing.T) {
	s, _ := listen(t, "")
	r := start(t, relay.Options{Address: s.addr})
	p := s.accept()
	add(t, r, "cpu", point(1))
	p.expect("add cpu:")
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint("tag", i)
	}
	for _, c := range []struct {
		name string
		tags []string
		c    relay.Collector
		err  error
	}{
		{"cpu", nil, point(1), relay.ErrDuplicate},
		{"c-pu", nil, point(1), relay.ErrName},
		{"c:pu", nil, point(1), relay.ErrName},
		{"", nil, point(1), relay.ErrName},
		{"ram\nclose", nil, point(1), relay.ErrName},
		{"_connected", nil, point(1), relay.ErrReserved},
		{"ram", []string{"a,b"}, point(1), relay.ErrName},
		{"ram", []string{"a\nclose"}, point(1), relay.ErrName},
		{"ram", many, point(1), relay.ErrOptions},
		{"ram", nil, nil, relay.ErrOptions},
	} {
		err := r.AddCollector(c.name, c.tags, c.c)
		var typed *relay.Error
		if !errors.Is(err, c.err) || !errors.As(err, &typed) || typed.Subject != c.name {
			t.Errorf("adding %q %.20q: %v", c.name, c.tags, err)
		}
	}
	if got := p.poll("cpu,ram"); got != "cpu-cpu:1" {
		t.Errorf("got %s", got)
	}
	r.Close()
	if err := r.AddCollector("ram", nil, point(1)); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("adding to a closed relay: %v", err)
	}
	if err := r.Wait(t.Context()); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("waiting for a closed relay: %v", err)
	}
}

// TestAddAndRemoveFromEverywhere: however adds and removes meet lost connections, in the end the
// server knows exactly the relay's collectors.
func TestAddAndRemoveFromEverywhere(t *testing.T) {
	s, _ := listen(t, "")
	r := start(t, relay.Options{Address: s.addr})
	known := make(chan map[string]bool) // of the first connection that stayed, when it ended
	go func() {
		for conn := 0; ; conn++ {
			p := s.next()
			p.expect("id web1")
			p.say("ok")
			if conn < 5 {
				for range 10 {
					p.line()
				}
				p.hangUp()
				continue
			}
			has := map[string]bool{}
			for line := range p.lines {
				switch verb, name, _ := strings.Cut(line, " "); verb {
				case "add":
					if has[name] {
						t.Errorf("%s is added twice", name)
					}
					has[name] = true
				case "remove":
					if !has[name+":"] {
						t.Errorf("%s is removed before it was added", name)
					}
					delete(has, name+":")
				}
				if line == "add last:" {
					known <- has
					return
				}
			}
		}
	}()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			add(t, r, fmt.Sprint("keep", g), point(1))
			deadline := time.Now().Add(patience)
			for i := 0; i < 300 || r.State().Connects < 6 && time.Now().Before(deadline); i++ {
				name := fmt.Sprintf("g%d_%d", g, i%3)
				add(t, r, name, point(1))
				r.Info()
				r.RemoveCollector(name)
			}
		})
	}
	wg.Wait()
	add(t, r, "last", point(1))
	has := <-known
	if len(has) != 5 || !has["keep0:"] || !has["keep3:"] || !has["last:"] {
		t.Errorf("the server knows %v", has)
	}
}

func TestValuesThatCannotBeSent(t *testing.T) {
	s, _ := listen(t, "")
	var log logtest.Buffer
	r := start(t, relay.Options{Address: s.addr, Logger: log.Logger()})
	add(t, r, "set", relay.NewSetCollector(func() map[string]float64 {
		return map[string]float64{"nan": math.NaN(), "inf": math.Inf(1), "a-b": 1, "a\nclose": 1, "good": 1e-300}
	}))
	add(t, r, "none", relay.NewSetCollector(func() map[string]float64 { return nil }))
	p := s.accept()
	p.expect("add none:", "add set:")
	for range 2 {
		if got := p.poll("none,set"); got != "set-good:1e-300" {
			t.Errorf("got %s", got)
		}
	}
	if i := info(t, r, "set"); i.NotFinite != 4 || i.BadNames != 4 || len(i.Values) != 1 {
		t.Errorf("%+v", i)
	}
	if log.Count("not finite") != 1 || log.Count("names hold") != 1 {
		t.Errorf("log: %s", log.String())
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		o   relay.Options
		err error
	}{
		{relay.Options{ID: "a"}, relay.ErrOptions},
		{relay.Options{Address: "no port", ID: "a"}, relay.ErrOptions},
		{relay.Options{Address: "127.0.0.1:1"}, relay.ErrName},
		{relay.Options{Address: "127.0.0.1:1", ID: "a\nb"}, relay.ErrName},
		{relay.Options{Address: "127.0.0.1:1", ID: "a", Token: "b c"}, relay.ErrName},
		{relay.Options{Address: "127.0.0.1:1", ID: "a", CollectTimeout: -1}, relay.ErrOptions},
	} {
		if r, err := relay.New(c.o); !errors.Is(err, c.err) || r != nil {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

// TestNewRelayFails: NewRelay fails, as in 0.2, when there is no server or the server does not say
// ok.
func TestNewRelayFails(t *testing.T) {
	s, stop := listen(t, "")
	for said, want := range map[string]string{
		"missing id": "missing id", "error no more relays": "no more relays", "beat 30": "beat 30", "": "",
	} {
		go func() {
			p := s.next()
			p.expect("id web1")
			p.say(said)
			p.expectHangUp()
		}()
		r, err := relay.NewRelay(s.addr, "web1")
		if !errors.Is(err, relay.ErrRefused) || !strings.Contains(err.Error(), want) || r != nil {
			t.Errorf("server says %q: %v", said, err)
		}
	}
	go func() { s.next().hangUp() }()
	if _, err := relay.NewRelay(s.addr, "web1"); err == nil {
		t.Error("no error from a server that hangs up")
	}
	stop()
	if _, err := relay.NewRelay(s.addr, "web1"); err == nil {
		t.Error("no error without a server")
	}
	if _, err := relay.NewRelay(s.addr, ""); !errors.Is(err, relay.ErrName) {
		t.Errorf("without an id: %v", err)
	}
}

func TestWaitSaysWhyNot(t *testing.T) {
	s, stop := listen(t, "")
	stop()
	r := start(t, relay.Options{Address: s.addr})
	eventually(t, "the first attempt fails", func() bool { return r.State().LastError != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := r.Wait(ctx)
	var typed *relay.Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &typed) || typed.Op != "connect" {
		t.Errorf("%v", err)
	}
}
