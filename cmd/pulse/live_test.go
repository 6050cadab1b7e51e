package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/pulseproc"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector/stream/streamtest"
)

// TestLiveOverKills simulates a browser that listens to one stat. It connects with a ticket and
// loses its connection repeatedly, and the server is killed twice. In the end the browser has
// received exactly the journal: every record, once, in order.
func TestLiveOverKills(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, "--influx-address", "embedded")
	random := rand.New(rand.NewPCG(4, 2))
	relays := newPushers(s.RelayAddr, 20, 5, random)
	defer relays.stop()
	b := &browser{server: s, last: "0", random: rand.New(rand.NewPCG(2, 4)), values: make(map[uint64]float64)}
	var listening sync.WaitGroup
	listening.Go(func() { b.listen(t) })
	defer listening.Wait()
	defer b.enough.Store(true)

	for round := range 3 {
		if round > 0 {
			s.Kill()
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := relays.push(t.Context(), 300); round == 0 && err != nil { // later they have ended
			t.Fatal(err)
		} else if err != nil {
			if err := relays.push(t.Context(), 300); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := relays.push(t.Context(), 1); err != nil { // so that the journal ends with readings
		t.Fatal(err)
	}
	var status struct {
		Journal struct {
			LastSeq uint64 `json:"last_sequence"`
		}
	}
	if err := s.Get("/status", &status); err != nil {
		t.Fatal(err)
	}
	await(t, s, "the browser at the journal's end", time.Minute, func() error {
		if at := b.at.Load(); at < status.Journal.LastSeq {
			return fmt.Errorf("it is at %d of %d", at, status.Journal.LastSeq)
		}
		return nil
	})
	b.enough.Store(true)
	listening.Wait()
	stopProjected(t, s)

	events := 0
	readJournal(t, dir, func(seq uint64, e *codec.Event) {
		for _, c := range e.Collectors {
			if c.Stats[0].ID != "stat_0" || seq > status.Journal.LastSeq {
				continue
			}
			events++
			if got, ok := b.values[seq]; !ok || got != c.Stats[0].Value {
				t.Errorf("record %d: %v is in the journal; the browser saw one: %v, %v", seq, c.Stats[0].Value, ok, got)
			}
		}
	})
	if events < 3*20*300 || len(b.values) != events {
		t.Errorf("the browser saw %d records, the journal has %d", len(b.values), events)
	}
	t.Logf("%d records over %d connections and %d tickets", events, b.connections, b.tickets)
}

// A browser is an EventSource of the stat stat_0. Its connection is cut at random.
type browser struct {
	server               *pulseproc.Server
	random               *rand.Rand
	enough               atomic.Bool
	at                   atomic.Uint64 // the last id
	last                 string
	values               map[uint64]float64
	connections, tickets int
}

// listen connects until enough is set. It repeats what fails, as a page does.
func (b *browser) listen(t *testing.T) {
	for ticket := ""; !b.enough.Load(); {
		if ticket == "" {
			ticket = b.ticket()
		}
		status, err := b.connect(ticket)
		if status == http.StatusUnauthorized {
			ticket = "" // the server was restarted
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// ticket returns a ticket, or "" while the server is away.
func (b *browser) ticket() string {
	request, err := http.NewRequest(http.MethodPost, "http://"+b.server.HTTPAddr+"/live/ticket", nil)
	if err != nil {
		return ""
	}
	request.Header.Set("X-AUTH-TOKEN", "secret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var made struct{ Ticket string }
	if json.NewDecoder(response.Body).Decode(&made) != nil {
		return ""
	}
	b.tickets++
	return made.Ticket
}

// connect listens for some ten kilobytes. It returns an error if the events are wrong.
func (b *browser) connect(ticket string) (status int, err error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+b.server.HTTPAddr+"/live/stat_0?ticket="+ticket, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Last-Event-ID", b.last)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, nil
	}
	b.connections++
	// The connection is also cut after a second, because a quiet stream might never end.
	defer time.AfterFunc(time.Second, func() { _ = response.Body.Close() }).Stop()
	events := streamtest.NewEvents(io.LimitReader(response.Body, 1000+b.random.Int64N(40_000)))
	for {
		ev, err := events.Next()
		if err != nil {
			return http.StatusOK, nil
		}
		if err := b.take(ev); err != nil {
			return http.StatusOK, err
		}
	}
}

func (b *browser) take(ev streamtest.Event) error {
	if ev.ID == "" {
		return nil
	}
	seq, err := strconv.ParseUint(ev.ID, 10, 64)
	if err != nil || seq < b.at.Load() {
		return fmt.Errorf("the id %q came after %d", ev.ID, b.at.Load())
	}
	switch ev.Type {
	case "readings":
		var m struct{ Readings []struct{ Value float64 } }
		if err := json.Unmarshal([]byte(ev.Data), &m); err != nil || len(m.Readings) != 1 {
			return fmt.Errorf("record %d: %q, %v", seq, ev.Data, err)
		}
		if _, twice := b.values[seq]; twice {
			return fmt.Errorf("record %d came twice", seq)
		}
		b.values[seq] = m.Readings[0].Value
	case "gap":
		return fmt.Errorf("a gap: %s", ev.Data)
	}
	b.last = ev.ID
	b.at.Store(seq)
	return nil
}
