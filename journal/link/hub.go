package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal/codec"
)

// HubOptions configure a Hub. Listener, Journal and DB are required.
type HubOptions struct {
	// Listener is where edges connect, TLS what they are shown (nil: the listener does TLS itself).
	Listener net.Listener
	TLS      *tls.Config
	Journal  Journal
	// DB holds what is known of edges, bucket "edges".
	DB *bbolt.DB
	// Tokens are those of the edges that may connect, by their names.
	Tokens map[string]string
	// Release is this Pulse's, for the other end.
	Release string
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// keepUnknown bounds how many refusals of unknown names are kept.
const keepUnknown = 20

// Hub takes the events of edges into the hub's journal. Its methods may be called from any goroutine.
type Hub struct {
	o        HubOptions
	log      *quietlog.Logger
	m        *hubMetrics
	registry registry
	guessers *guesses.Limiter

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards the fields below, and those of edges that say so
	tokens  map[string]*guesses.Secret
	edges   map[string]*edge
	unknown []UnknownEdge
	conns   map[net.Conn]bool
}

// edge is an edge as the hub has it in memory. Hub.mu guards it.
type edge struct {
	name    string
	stored  stored
	session *session // nil without a link
	since   time.Time
	has     uint64
	offset  time.Duration
	events  uint64
	notice  remark
	refused *Refusal
}

// NewHub reads what is known of the edges. It owns the listener from then on.
func NewHub(o HubOptions) (*Hub, error) {
	if o.Listener == nil || o.Journal == nil || o.DB == nil {
		return nil, errors.New("link: HubOptions needs a Listener, a Journal and a DB")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &Hub{o: o, log: quietlog.New(o.Logger), registry: registry{o.DB}, guessers: guesses.New(),
		edges: make(map[string]*edge), conns: make(map[net.Conn]bool)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	known, err := h.registry.load()
	if err != nil {
		return nil, err
	}
	for name, s := range known {
		e := &edge{name: name, stored: *s, since: s.Heard}
		tip, last, err := newest(h.ctx, o.Journal, name, s)
		if err != nil {
			return nil, err
		}
		if e.has = tip.Origin; last > s.TipRecord {
			e.stored.Tip, e.stored.TipRecord = tip, last
			if err := h.registry.save(name, &e.stored); err != nil {
				return nil, err
			}
		}
		h.edges[name] = e
	}
	h.m = newHubMetrics(o.Registerer, h)
	h.SetTokens(o.Tokens)
	return h, nil
}

// SetTokens replaces the tokens. An edge that has none any more, or another, is disconnected.
func (h *Hub) SetTokens(tokens map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = make(map[string]*guesses.Secret, len(tokens))
	for name, token := range tokens {
		secret := new(guesses.Secret)
		secret.Set(token)
		h.tokens[name] = secret
		if h.edges[name] == nil && codec.ValidEdge(name) {
			h.edges[name] = &edge{name: name}
		}
		h.m.events.WithLabelValues(name)
		h.m.missing.WithLabelValues(name) // so that the first gap is an increase
	}
	for name, e := range h.edges {
		if h.tokens[name] == nil && e.stored.Heard.IsZero() && e.session == nil {
			delete(h.edges, name) // it was never here
		}
		if e.session != nil && (h.tokens[name] == nil || !h.tokens[name].Equal(e.session.token)) {
			e.session.end("its token was removed or changed")
		}
	}
}

// Start takes connections.
func (h *Hub) Start() {
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		h.accept()
	}()
}

// Stop ends all links, and returns when what came over them is durable or given back, or when ctx ends.
func (h *Hub) Stop(ctx context.Context) error {
	h.cancel()
	err := h.o.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	h.mu.Lock()
	for c := range h.conns {
		_ = c.Close() // the other end sees it
	}
	h.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.wg.Wait()
	}()
	select {
	case <-done:
		h.m.unregister(h.o.Registerer)
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("link: connections of edges are still open: %w", ctx.Err()))
	}
}

func (h *Hub) accept() {
	for {
		c, err := h.o.Listener.Accept()
		if err != nil {
			if h.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			h.log.WarnRarely("accept", "a connection of an edge could not be taken", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-h.ctx.Done():
				return
			}
			continue
		}
		h.mu.Lock()
		if h.ctx.Err() != nil {
			h.mu.Unlock()
			_ = c.Close() // Stop did not see it
			return
		}
		h.conns[c] = true
		h.wg.Add(1)
		h.mu.Unlock()
		go func() {
			defer h.wg.Done()
			h.serve(c)
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.conns, c)
		}()
	}
}

// Edges lists the edges by name.
func (h *Hub) Edges() []Edge {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Edge, 0, len(h.edges))
	for _, e := range h.edges {
		list = append(list, h.view(e))
	}
	slices.SortFunc(list, func(a, b Edge) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// view is what people see of an edge. mu is held.
func (h *Hub) view(e *edge) Edge {
	v := Edge{Name: e.name, State: StateSilent, Since: e.since, Heard: e.stored.Heard, Address: e.stored.Address, Release: e.stored.Release,
		Has: e.has, Last: max(e.stored.Last, e.has), Lacks: max(e.stored.Last, e.has) - e.has, ClockOffset: e.offset.Seconds(), Events: e.events,
		Gaps: slices.Clone(e.stored.Gaps), Begun: slices.Clone(e.stored.Begun), Notice: e.notice.at(h.o.Now()), Refused: e.refused}
	switch {
	case e.session != nil:
		v.State = StateConnected
	case h.tokens[e.name] == nil:
		v.State = StateOff
	case e.stored.Heard.IsZero():
		v.State = StateNever
	}
	return v
}

// RefusedNames lists the latest attempts to connect under names that the hub does not know.
func (h *Hub) RefusedNames() []UnknownEdge {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.unknown)
}

// refuse notes a refusal.
func (h *Hub) refuse(name string, r Refusal) {
	h.m.refused.Inc()
	kind := "refused" // each edge that is known by itself, and the others together
	h.mu.Lock()
	if h.edges[name] != nil {
		kind += " " + name
	}
	h.mu.Unlock()
	h.log.WarnRarely(kind, "an edge was refused", "edge", name, "addr", r.Address, "reason", r.Reason)
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.edges[name]; e != nil {
		e.refused = &r
		return
	}
	name = name[:min(len(name), codec.MaxEdge)]
	h.unknown = slices.DeleteFunc(h.unknown, func(u UnknownEdge) bool { return u.Name == name })
	h.unknown = append(h.unknown, UnknownEdge{name, r})
	h.unknown = h.unknown[max(0, len(h.unknown)-keepUnknown):]
}
