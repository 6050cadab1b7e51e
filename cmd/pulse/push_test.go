package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nanopack/pulse/relaywire"
	"github.com/nanopack/pulse/relaywire/relaytest"
)

// Pushers are relays that send readings without being polled, as fast as the server takes them.
// They note which events the server has confirmed.
type pushers struct {
	addr   string
	relays []*pusher
}

type pusher struct {
	id     string
	random *rand.Rand
	stats  int
	tags   string   // of its collector: key:value,word
	conn   net.Conn // nil while not connected
	lines  *relaywire.Reader
	sent   int          // events written so far; stat_0 is the event's number, from 1
	known  map[int]bool // events that the server has confirmed
}

func newPushers(addr string, relays, stats int, random *rand.Rand) *pushers {
	p := &pushers{addr: addr}
	for i := range relays {
		p.relays = append(p.relays, &pusher{id: fmt.Sprintf("pusher-%03d", i), stats: stats, known: make(map[int]bool),
			random: rand.New(rand.NewPCG(random.Uint64(), 0))})
	}
	return p
}

// push has every relay send n events; a relay that is not connected connects first. push returns
// when the server has confirmed all events, or with the first error of a connection.
func (p *pushers) push(ctx context.Context, n int) error {
	var all sync.WaitGroup
	errs := make([]error, len(p.relays))
	for i, r := range p.relays {
		all.Go(func() { errs[i] = r.push(ctx, p.addr, n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// stop closes every connection.
func (p *pushers) stop() {
	for _, r := range p.relays {
		r.hangUp()
	}
}

func (r *pusher) hangUp() {
	if r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
}

func (r *pusher) push(ctx context.Context, addr string, n int) (err error) {
	defer func() {
		if err != nil {
			r.hangUp()
		}
	}()
	if r.conn == nil {
		if err := r.connect(ctx, addr); err != nil {
			return err
		}
	}
	conn := r.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	const atOnce = 20 // events in a write, so that the answer comes soon
	for n > 0 {
		first := r.sent + 1
		var text strings.Builder
		for range min(n, atOnce) {
			r.sent++
			fmt.Fprintf(&text, "got c-stat_0:%d", r.sent)
			for stat := 1; stat < r.stats; stat++ {
				fmt.Fprintf(&text, ",c-%s:%s", relaytest.FleetStat(stat), strconv.FormatFloat(r.random.NormFloat64(), 'g', -1, 64))
			}
			text.WriteString("\n")
			n--
		}
		// A session continues only after the journal has its event. So the pong confirms all events
		// before.
		if _, err := conn.Write([]byte(text.String() + "ping\n")); err != nil {
			return err
		}
		if err := r.await(relaywire.VerbPong); err != nil {
			return err
		}
		for event := first; event <= r.sent; event++ {
			r.known[event] = true
		}
	}
	return nil
}

func (r *pusher) connect(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	r.conn, r.lines = conn, relaywire.NewReader(conn)
	if _, err := conn.Write([]byte("id " + r.id + "\n")); err != nil {
		return err
	}
	if err := r.await(relaywire.VerbOK); err != nil {
		return err
	}
	_, err = conn.Write([]byte("add c:" + r.tags + "\n"))
	return err
}

// await reads until the server sends verb, and ignores other lines.
func (r *pusher) await(verb relaywire.Verb) error {
	for {
		m, err := r.lines.Read()
		if err != nil {
			return err
		}
		if m.Verb == relaywire.VerbError {
			return fmt.Errorf("the server says %q", m.Args)
		}
		if m.Verb == verb {
			return nil
		}
	}
}

// check compares the relays' notes with the journal. Every event that the server confirmed is
// there, once, and no event that was not sent.
func (p *pushers) check(t *testing.T, c *count) {
	t.Helper()
	stored := make(map[string]map[int]bool)
	for k, v := range c.raw {
		host, rest, _ := strings.Cut(k, " ")
		if !strings.HasPrefix(rest, "stat_0 ") {
			continue
		}
		if stored[host] == nil {
			stored[host] = make(map[int]bool)
		}
		stored[host][int(v)] = true
	}
	for _, r := range p.relays {
		missing := 0
		for event := range r.known {
			if !stored[r.id][event] {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%s: %d events that the server had are not in the journal", r.id, missing)
		}
		for event := range stored[r.id] {
			if event < 1 || event > r.sent {
				t.Errorf("%s: event %d is in the journal and was never sent", r.id, event)
			}
		}
	}
}
