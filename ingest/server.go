package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// acceptFirst and acceptMost bound the pause after a failed accept (too many open files, for example).
	acceptFirst, acceptMost = 5 * time.Millisecond, time.Second
	// maxRefusals is how many connections are told at once that there are too many; more are closed without a word.
	maxRefusals = 64
)

// Server is the relay listener with everything behind it. All its methods may be called from any goroutine.
type Server struct {
	opt   Options
	log   *slog.Logger
	quiet *quiet
	m     *metrics
	token atomic.Pointer[[sha256.Size]byte] // its sum; nil: none is asked for
	// guessers are who gave wrong tokens.
	guessers *guesses.Limiter
	// greeting is what every relay is answered to its id.
	greeting []byte

	registry  *registry
	store     *store
	overrides overrides
	poller    *poller
	events    *relayEvents
	// assemblies holds *assembly.
	assemblies sync.Pool

	// ctx is the context of every append; Stop cancels it when its own time is over.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// sessions counts the goroutines of sessions and refusals. It grows only while the accept loop runs.
	sessions  sync.WaitGroup
	refusals  chan struct{}
	accepting chan struct{} // closed when the accept loop has ended
	stopped   chan struct{} // closed when Stop is done; stopErr is set before
	stopErr   error

	mu           sync.Mutex // guards what follows
	state        state
	conns        map[*session]bool // every connection, and whether it is a relay
	unidentified int
}

type state uint8

const (
	stateNew state = iota
	stateStarted
	stateStopping
)

// New returns a server that knows again what it knew before: relays with their collectors, and overrides. It serves nothing yet. The
// error is an *[Error], or several joined, or the state file's.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	srv := &Server{
		opt: o, log: o.Logger, quiet: newQuiet(o.Logger), m: m,
		guessers:  guesses.New(),
		greeting:  relaywire.AppendBeat(relaywire.AppendOK(nil), o.BeatInterval),
		store:     newStore(o.DB, o.Logger, m),
		refusals:  make(chan struct{}, maxRefusals),
		accepting: make(chan struct{}), stopped: make(chan struct{}),
		conns: make(map[*session]bool),
	}
	srv.setToken(o.Token)
	srv.ctx, srv.cancel = context.WithCancelCause(context.Background())
	srv.assemblies.New = func() any { return new(assembly) }
	srv.overrides.db = o.DB
	srv.poller = newPoller(srv)
	srv.events = newRelayEvents(srv)
	srv.registry = newRegistry(o.Limits, m, srv.store, srv.events)
	srv.store.lookup, srv.store.connected = srv.registry.get, srv.registry.connectedRelays
	srv.store.keep, srv.store.now = srv.keep, o.Now
	if err := srv.load(); err != nil {
		m.unregister(o.Registerer)
		return nil, &Error{Op: "registry", Err: err}
	}
	return srv, nil
}

// load reads the state file.
func (srv *Server) load() error {
	now := srv.opt.Now()
	alive, err := srv.store.loadAlive()
	if err != nil {
		return err
	}
	var relays []*relay
	err = srv.store.load(func(id string, s storedRelay) {
		r := alive.restore(id, s, now)
		if s.Gone != r.goneAt.UnixNano() {
			srv.store.changed(id) // before it is written that it is not connected any more
		}
		relays = append(relays, r)
	})
	if err != nil {
		return err
	}
	slices.SortFunc(relays, func(a, b *relay) int { return a.goneAt.Compare(b.goneAt) })
	for _, r := range relays {
		srv.registry.remember(r)
	}
	return srv.loadOverrides()
}

// keep forgets what has become too old. The store calls it once a minute, the first time a minute after the start: relays that had nobody
// to connect to can come back before they are forgotten.
func (srv *Server) keep() {
	srv.registry.expire(srv.opt.Now())
	srv.overrides.change.Lock()
	defer srv.overrides.change.Unlock()
	if err := srv.overrides.expire(srv.poller.clock()); err != nil {
		srv.quiet.warn("expire", "ended overrides cannot be deleted; trying again", "error", err)
	}
}

// Start accepts connections and polls. After the first call, and after Stop, it does nothing.
func (srv *Server) Start() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.state != stateNew {
		return
	}
	srv.state = stateStarted
	go srv.store.run()
	go srv.poller.run()
	go srv.accept()
}

// Addr returns the address that relays connect to.
func (srv *Server) Addr() net.Addr { return srv.opt.Listener.Addr() }

// accept is the accept loop. Nothing in it depends on what a connection does.
func (srv *Server) accept() {
	defer close(srv.accepting)
	pause := time.Duration(0)
	for {
		conn, err := srv.opt.Listener.Accept()
		if err == nil {
			pause = 0
			srv.m.accepted.Inc()
			srv.serve(conn)
			continue
		}
		if srv.stopping() {
			return
		}
		srv.m.acceptErrors.Inc()
		if errors.Is(err, net.ErrClosed) {
			srv.log.Error("the relay listener was closed by somebody else; no relay can connect until a restart", "error", err)
			return
		}
		// Too many open files, most likely: relays that are connected go on, and closing connections make room.
		srv.quiet.warn("accept", "cannot accept relays; trying again", "error", err, "hint", "raise the limit of open files if it is too low")
		pause = min(max(2*pause, acceptFirst), acceptMost)
		select {
		case <-time.After(pause):
		case <-srv.ctx.Done():
		}
	}
}

// serve tracks a connection and starts its session, or refuses it.
func (srv *Server) serve(conn net.Conn) {
	srv.mu.Lock()
	switch {
	case srv.state != stateStarted:
		srv.mu.Unlock()
		conn.Close()
	case srv.unidentified >= srv.opt.Limits.Unidentified:
		srv.mu.Unlock()
		srv.m.refused.WithLabelValues(refusedUnidentified).Inc()
		srv.quiet.warn("unidentified", "relay connection refused: too many have not said their id yet", "limit", srv.opt.Limits.Unidentified)
		srv.refuse(conn)
	default:
		s := newSession(srv, conn)
		srv.conns[s] = false
		srv.unidentified++
		srv.m.unidentified.Set(float64(srv.unidentified))
		srv.sessions.Add(1)
		srv.mu.Unlock()
		go s.run()
	}
}

// refuse tells a connection that there are too many, if few enough are being told at the moment, and closes it.
func (srv *Server) refuse(conn net.Conn) {
	select {
	case srv.refusals <- struct{}{}:
	default:
		conn.Close()
		return
	}
	srv.sessions.Add(1)
	go func() {
		defer srv.sessions.Done()
		defer func() { <-srv.refusals }()
		defer conn.Close()
		if srv.opt.TLS != nil {
			return // a handshake is what there is no room for
		}
		conn.SetWriteDeadline(time.Now().Add(lingerTimeout))
		conn.Write(relaywire.AppendError(nil, "too many connections: "+strconv.Itoa(srv.opt.Limits.Unidentified)+" have not said their id yet"))
	}()
}

// identified notes that a connection has become a relay.
func (srv *Server) identified(s *session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.conns[s] = true
	srv.unidentified--
	srv.m.unidentified.Set(float64(srv.unidentified))
}

// untrack forgets a connection that is closed.
func (srv *Server) untrack(s *session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if !srv.conns[s] {
		srv.unidentified--
		srv.m.unidentified.Set(float64(srv.unidentified))
	}
	delete(srv.conns, s)
}

func (srv *Server) stopping() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.state == stateStopping
}

// SetToken changes the token that relays must give from now on; "" asks for none. Relays that are connected stay so. The error
// is an *[Error]: no relay could send the token.
func (srv *Server) SetToken(token string) error {
	if token != "" && !relaywire.ValidToken(token) {
		return &Error{Op: "options", Subject: "Token", Err: fmt.Errorf("%w: %s", ErrInvalid, tokenHint)}
	}
	srv.setToken(token)
	return nil
}

func (srv *Server) setToken(token string) {
	if token == "" {
		srv.token.Store(nil)
		return
	}
	sum := sha256.Sum256([]byte(relaywire.TrimToken(token)))
	srv.token.Store(&sum)
}

// authorized reports whether a connection from there gave the right token. wait is how long its address is refused because
// too many wrong ones came from it; no token at all is no guess.
func (srv *Server) authorized(from net.Addr, token []byte) (ok bool, wait time.Duration) {
	right := srv.token.Load()
	if right == nil {
		return true, 0
	}
	var given []string
	if len(token) > 0 {
		given = []string{string(token)}
	}
	return srv.guessers.Judge(guesses.Origin(from.String()), srv.opt.Now(), given, func(token string) bool {
		sum := sha256.Sum256([]byte(token)) // lengths are compared in constant time too
		return subtle.ConstantTimeCompare(sum[:], right[:]) == 1
	})
}

// Stop closes the listener, sends no more polls, waits for the answers that are under way (a second at most) and for the
// journal to take them, closes every connection and stores the registry. When ctx ends first, appends and
// connections are cut off and the error says so. In either case every goroutine has ended when it returns; further calls wait for the
// first one and return the same. A server that was never started can be stopped too.
func (srv *Server) Stop(ctx context.Context) error {
	srv.mu.Lock()
	before := srv.state
	srv.state = stateStopping
	srv.mu.Unlock()
	if before == stateStopping {
		<-srv.stopped
		return srv.stopErr
	}
	defer close(srv.stopped)
	defer srv.cancel(nil)
	srv.opt.Listener.Close()
	if before == stateNew {
		return nil
	}
	<-srv.accepting
	close(srv.poller.stop)
	<-srv.poller.done

	srv.overrides.settle()

	cut := make(chan struct{})
	inTime := context.AfterFunc(ctx, func() {
		defer close(cut)
		srv.cancel(context.Cause(ctx))
		for _, s := range srv.open() {
			s.kill(endStopped)
		}
	})
	until := time.Now().Add(drainGrace)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-drainGrace/2).Before(until) {
		until = deadline.Add(-drainGrace / 2) // leave time for what comes after
	}
	for _, s := range srv.open() {
		s.drain(until)
	}
	srv.sessions.Wait()
	srv.events.flush()
	var errs []error
	if !inTime() {
		<-cut
		errs = append(errs, &Error{Op: "stop", Err: fmt.Errorf("connections and appends were cut off: %w", context.Cause(ctx))})
	}
	if err := srv.store.close(); err != nil {
		errs = append(errs, &Error{Op: "stop", Subject: "registry", Err: err})
	}
	srv.stopErr = errors.Join(errs...)
	return srv.stopErr
}

// open returns every connection.
func (srv *Server) open() []*session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	list := make([]*session, 0, len(srv.conns))
	for s := range srv.conns {
		list = append(list, s)
	}
	return list
}
