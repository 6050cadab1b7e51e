package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// TestOverrideOverRestart kills a server during an override. The next server continues the override
// for its relays, sends them the remaining seconds, and ends it at the original time. A relay that
// connected later is polled as usual.
func TestOverrideOverRestart(t *testing.T) {
	const lasts, regular = 14 * time.Second, 24 * 3600
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", fmt.Sprint(regular), "-l", "WARN")
	there, late := newPolled(t, "there"), newPolled(t, "late")
	there.connect(s.RelayAddr)
	await(t, s, "the relay's collector", time.Minute, func() error { return there.polledTimes(1) })

	posted := time.Now()
	if err := s.Post("/overrides", fmt.Sprintf(`{"collectors":{"cpu":1},"duration":%d}`, int(lasts.Seconds()))); err != nil {
		t.Fatal(err)
	}
	ends := posted.Add(lasts)
	await(t, s, "a poll a second", time.Minute, func() error { return there.polledTimes(3) })

	s.Kill()
	there.forget()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	there.connect(s.RelayAddr)
	late.connect(s.RelayAddr)
	await(t, s, "a poll a second after the kill", time.Minute, func() error { return there.polledTimes(3) })
	told, at := there.override()
	if seconds, ok := strings.CutSuffix(told, " cpu:1"); !ok {
		t.Errorf("the relay was told %q", told)
	} else if left, err := time.ParseDuration(seconds + "s"); err != nil || at.Add(left).Before(ends.Add(-time.Second)) || at.Add(left).After(ends.Add(time.Minute)) {
		t.Errorf("the relay was told that it holds for %s s, %v before the end", seconds, ends.Sub(at))
	}
	await(t, s, "the late relay's first poll", time.Minute, func() error { return late.polledTimes(1) })

	await(t, s, "the end of the override", time.Until(ends)+time.Minute, func() error {
		if n := listed(t, s, "/overrides"); n != 0 {
			return fmt.Errorf("%d are listed", n)
		}
		return nil
	})
	if off := time.Since(ends); off < -time.Second {
		t.Errorf("it ended %v after its end", off)
	}
	if last := there.lastPoll().Sub(ends); last < -10*time.Second || last > 10*time.Second { // a poll a second, on a slow machine
		t.Errorf("the last poll came %v after its end", last)
	}
	if told, _ := late.override(); told != "" {
		t.Errorf("the relay that was not there was told %q", told)
	}
	if n := late.polls(); n != 1 {
		t.Errorf("the relay that was not there was polled %d times", n)
	}
}

// polled is a relay that answers polls and notes their times.
type polled struct {
	t  *testing.T
	id string

	mu    sync.Mutex
	times []time.Time // of polls
	told  string      // the arguments of the first override line
	at    time.Time   // when that line came
	wg    sync.WaitGroup
}

func newPolled(t *testing.T, id string) *polled {
	p := &polled{t: t, id: id}
	t.Cleanup(p.wg.Wait) // after the connections are closed
	return p
}

// connect sends the relay's id and collectors. After that the relay answers polls until the
// connection ends.
func (p *polled) connect(address string) {
	p.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "id %s\nadd cpu\n", p.id); err != nil {
		p.t.Fatal(err)
	}
	p.wg.Go(func() {
		lines := relaywire.NewReader(conn)
		for {
			m, err := lines.Read()
			if err != nil {
				return
			}
			p.mu.Lock()
			switch {
			case m.Verb == relaywire.VerbGet:
				p.times = append(p.times, time.Now())
			case m.Verb == relaywire.VerbOverride && p.told == "":
				p.told, p.at = string(m.Args), time.Now()
			}
			p.mu.Unlock()
			if m.Verb == relaywire.VerbGet {
				_, err = conn.Write([]byte("got cpu-cpu:1\n"))
			}
			if err != nil {
				return
			}
		}
	})
}

// forget deletes the notes before a new connection.
func (p *polled) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times, p.told = nil, ""
}

func (p *polled) polls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

func (p *polled) polledTimes(n int) error {
	if have := p.polls(); have < n {
		return fmt.Errorf("%d polls of %d", have, n)
	}
	return nil
}

func (p *polled) lastPoll() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times[len(p.times)-1]
}

func (p *polled) override() (told string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told, p.at
}

// TestSlowOverrideStaysInLatest polls a collector less often than the interval. /latest always has
// its reading: after a kill too, and while the relay is away. After the override is cancelled, and
// the relay is away, /latest does not have the reading.
func TestSlowOverrideStaysInLatest(t *testing.T) {
	s := startServer(t, t.TempDir(), "--influx-address", "embedded", "-p", "1", "-l", "WARN")
	r := newPolled(t, "slow")
	r.connect(s.RelayAddr)
	latest := func() error {
		var reading stat
		return s.Get("/latest/cpu?host=slow", &reading)
	}
	await(t, s, "the first reading", time.Minute, latest)
	if err := s.Post("/overrides", `{"collectors":{"cpu":20},"duration":3600}`); err != nil {
		t.Fatal(err)
	}
	for ends := time.Now().Add(8 * time.Second); time.Now().Before(ends); {
		if err := latest(); err != nil {
			t.Fatalf("/latest between two polls: %v", err)
		}
		<-time.After(200 * time.Millisecond)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitProjected(t, s)
	if err := latest(); err != nil {
		t.Errorf("/latest after a kill, the relay away: %v", err)
	}
	var overrides []struct{ ID string }
	if err := s.Get("/overrides", &overrides); err != nil || len(overrides) != 1 {
		t.Fatal(overrides, err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+s.HTTPAddr+"/overrides/"+overrides[0].ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-AUTH-TOKEN", defaultToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	await(t, s, "the reading to be too old", time.Minute, func() error {
		if latest() == nil {
			return errors.New("it is there")
		}
		return nil
	})
}
