package link

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/journal/codec"
)

const (
	// aliveFor is how recently a connection was heard if it is not dead for certain.
	aliveFor = 2 * time.Second
	// refusedPause is when a refused edge should try again, earlierPause when an earlier connection
	// of its own is in the way.
	refusedPause = 5 * time.Second
	earlierPause = time.Second
	// handshakeTimeout bounds the time until the edge said who it is.
	handshakeTimeout = 10 * time.Second
)

// session is a connection of an edge that was let in.
type session struct {
	hub             *Hub
	edge            *edge
	c               *conn
	instance, token string
	journal         string
	done            chan struct{} // closed when nothing of it is being appended any more

	heard time.Time // guarded by Hub.mu, as reason
	// reason is why the hub ended it, "" if it did not.
	reason string

	// The receiver's own.
	known []history // the last one's tip is the newest event that the hub has
	last  uint64    // the record of that event
	next  uint64    // the number that comes next; 0 before begin
	batch batchReader

	asking sync.Mutex
	asks   map[uint64]chan answer
	asked  uint64
}

// serve is a connection from its first byte to its last.
func (h *Hub) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }() // the other end sees it
	under, addr := raw, raw.RemoteAddr().String()
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	if h.o.TLS != nil {
		t := tls.Server(raw, h.o.TLS)
		if err := t.HandshakeContext(h.ctx); err != nil {
			h.log.WarnRarely("tls", "a connection to --hub-listen-address speaks no TLS, or does not trust this hub's certificate", "addr", addr, "err", err)
			return
		}
		raw = t
	}
	c := newConn(raw, 0) // one deadline for all until it is known who it is
	c.max, c.under = maxHello, under
	var hi hello
	err := c.sendJSON(frameGreeting, greeting{protocol, oldestProtocol, h.o.Release})
	if err == nil {
		err = c.expect(frameHello, &hi)
	}
	if err != nil {
		h.log.WarnRarely("hello", "a connection to --hub-listen-address ended before it said which edge it is", "addr", addr, "err", why(err))
		return
	}
	s, refused := h.admit(c, hi, addr)
	if refused != nil {
		h.refuse(hi.Edge, Refusal{h.o.Now().UTC(), addr, refused.Reason})
		_ = c.sendJSON(frameRefusal, refused) // whoever does not hear it is refused again
		return
	}
	defer s.over(addr)
	c.max, c.idle = maxFrame, hubIdle
	h.log.Info("an edge is connected", "edge", hi.Edge, "addr", addr, "release", hi.Release)
	err = s.run()
	h.mu.Lock()
	reason := s.reason
	h.mu.Unlock()
	if reason == "" {
		reason = why(err)
	}
	var refuse *refusedError
	if errors.As(err, &refuse) {
		_ = c.sendJSON(frameRefusal, refuse.refusal)
	}
	h.log.Warn("the link to an edge ended", "edge", hi.Edge, "addr", addr, "reason", reason)
}

// admit decides about an edge that said who it is. What it returns is the edge's session.
func (h *Hub) admit(c *conn, hi hello, addr string) (*session, *refusal) {
	never := func(format string, args ...any) (*session, *refusal) {
		return nil, &refusal{fmt.Sprintf(format, args...), refusedPause.Milliseconds()}
	}
	switch {
	case hi.Protocol < oldestProtocol:
		return never("this hub (release %s) needs an edge that speaks version %d of the link; the edge (release %s) speaks %d: upgrade the edge", h.o.Release, oldestProtocol, hi.Release, hi.Protocol)
	case hi.Oldest > protocol:
		return never("this edge (release %s) needs a hub that speaks version %d of the link; the hub (release %s) speaks %d: upgrade the hub", hi.Release, hi.Oldest, h.o.Release, protocol)
	case !codec.ValidEdge(hi.Edge):
		return never("%.100q cannot be the name of an edge", hi.Edge)
	}
	h.mu.Lock()
	secret := h.tokens[hi.Edge]
	h.mu.Unlock()
	origin, now := guesses.Origin(addr), time.Now()
	ok, wait := h.guessers.Judge(origin, now, []string{hi.Token}, func(given string) bool { return secret != nil && secret.Equal(given) })
	switch {
	case !ok && wait > 0:
		return nil, &refusal{h.guessers.Refusal("token", origin, now, wait), wait.Milliseconds()}
	case !ok:
		return never("the hub knows no edge %s with this token: compare --edge-name and --hub-token here with --edges at the hub", hi.Edge)
	}
	s := &session{hub: h, c: c, instance: hi.Instance, token: hi.Token, journal: hi.Journal, done: make(chan struct{}), asks: make(map[uint64]chan answer)}
	for {
		h.mu.Lock()
		e, now := h.edges[hi.Edge], h.tokens[hi.Edge]
		if e == nil || now == nil || !now.Equal(hi.Token) {
			h.mu.Unlock()
			return never("the token of this edge was removed or changed")
		}
		old := e.session
		if old == nil {
			s.edge, s.heard = e, h.o.Now()
			e.session, e.since = s, h.o.Now().UTC()
			e.stored.Address, e.stored.Release = addr, hi.Release
			h.mu.Unlock()
			return s, nil
		}
		if old.instance != hi.Instance {
			defer h.mu.Unlock()
			return nil, h.occupied(e, addr)
		}
		old.end("the edge connected again")
		h.mu.Unlock()
		select {
		case <-old.done:
		case <-h.ctx.Done():
			return never("the hub stops")
		}
	}
}

// occupied refuses an edge whose name has a link. mu is held.
func (h *Hub) occupied(e *edge, addr string) *refusal {
	s := e.session
	if h.o.Now().Sub(s.heard) > aliveFor {
		return &refusal{"an earlier connection of this edge is not over yet", earlierPause.Milliseconds()}
	}
	text := fmt.Sprintf("another Pulse (%s) tried to connect as edge %s and was refused: two must not use one name; give each a name and a token of its own", addr, e.name)
	e.notice = remark{text, s.hub.o.Now()}
	s.hub.wg.Go(func() { _ = s.c.sendJSON(frameNotice, notice{text}) }) // a link that is dead has other troubles
	return &refusal{fmt.Sprintf("another Pulse (%s) is connected as edge %s: two must not use one name; give this one an --edge-name and a --hub-token of its own",
		e.stored.Address, e.name), refusedPause.Milliseconds()}
}

// end closes the connection, because of reason. Hub.mu is held.
func (s *session) end(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
	_ = s.c.under.Close() // the receiver sees it; TLS would wait for the other end
}

// over gives the edge's name back. The last thing that a session does.
func (s *session) over(addr string) {
	h := s.hub
	tip, last, err := newest(context.WithoutCancel(h.ctx), h.o.Journal, s.edge.name, &stored{})
	h.mu.Lock()
	e := s.edge
	if err == nil && last > 0 {
		e.stored.Tip, e.stored.TipRecord = tip, last
	}
	e.session, e.since, e.stored.Heard = nil, s.heard.UTC(), s.heard.UTC()
	copied := e.stored.clone()
	h.mu.Unlock()
	if err := h.registry.save(e.name, copied); err != nil {
		h.log.Error("what is known of an edge could not be kept", "edge", e.name, "addr", addr, "err", err)
	}
	close(s.done)
}

func (s *stored) clone() *stored {
	c := *s
	c.Gaps, c.Begun, c.Histories = slices.Clone(s.Gaps), slices.Clone(s.Begun), slices.Clone(s.Histories)
	return &c
}

// run welcomes the edge and takes what it sends, until the connection ends.
func (s *session) run() error {
	h := s.hub
	h.mu.Lock()
	before := s.edge.stored.clone()
	h.mu.Unlock()
	if err := s.c.SetDeadline(time.Time{}); err != nil { // the handshake's
		return err
	}
	// The edge hears that the hub is there also while the hub looks what it has.
	ctx, cancel := context.WithCancel(h.ctx)
	var pings sync.WaitGroup
	pings.Go(func() {
		every(ctx, func() bool {
			err := s.c.sendJSON(framePing, ping{})
			if err != nil {
				_ = s.c.Close() // the receiver sees it
			}
			return err == nil
		})
	})
	defer func() {
		cancel()
		pings.Wait()
	}()
	tip, last, err := newest(h.ctx, h.o.Journal, s.edge.name, before)
	if err != nil {
		return s.cannot(err)
	}
	s.known, s.last = before.known(tip, last), last
	h.mu.Lock()
	s.edge.has = tip.Origin
	h.mu.Unlock()
	var w welcome
	for _, k := range s.known {
		w.Histories = append(w.Histories, told{k.Start, k.Journal, k.Tip})
	}
	if err := s.c.sendJSON(frameWelcome, w); err != nil {
		return err
	}
	for {
		kind, payload, err := s.c.receive()
		if err != nil {
			return err
		}
		h.mu.Lock()
		s.heard = h.o.Now()
		s.edge.stored.Heard = s.heard.UTC()
		h.mu.Unlock()
		if err := s.take(ctx, kind, payload); err != nil {
			return err
		}
	}
}

// every calls f once a pingEvery, until it returns false or ctx ends.
func every(ctx context.Context, f func() bool) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !f() {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// take takes a frame.
func (s *session) take(ctx context.Context, kind byte, payload []byte) error {
	switch kind {
	case framePing:
		var p ping
		if err := json.Unmarshal(payload, &p); err != nil {
			return err
		}
		s.alive(p)
		return nil
	case frameFind:
		var f find
		if err := json.Unmarshal(payload, &f); err != nil {
			return err
		}
		e, err := findUpTo(ctx, s.hub.o.Journal, s.edge.name, s.known, f.History, s.last, f.Origin)
		if err != nil {
			return s.cannot(err)
		}
		return s.c.sendJSON(frameFound, e)
	case frameBegin:
		var b begin
		if err := json.Unmarshal(payload, &b); err != nil {
			return err
		}
		return s.begin(b)
	case frameEvents:
		return s.events(ctx, payload)
	case frameGap:
		var g gap
		if err := json.Unmarshal(payload, &g); err != nil {
			return err
		}
		return s.gap(g)
	case frameAnswer:
		var a answer
		if err := json.Unmarshal(payload, &a); err != nil {
			return err
		}
		s.answered(a)
		return nil
	}
	return nil // of a newer edge
}

// alive notes what a ping says.
func (s *session) alive(p ping) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.edge.stored.Last = p.Last
	s.edge.offset = time.Unix(0, p.Now).Sub(s.hub.o.Now())
}

// cannot is the error of a hub that cannot work now. The edge is told.
func (s *session) cannot(err error) error {
	return &refusedError{refusal{"the hub cannot take events now: " + err.Error(), refusedPause.Milliseconds()}}
}
