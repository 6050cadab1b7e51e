package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxRefusals is how many connections are told at once that there are too many; more are closed
	// without a word.
	maxRefusals = 64
	// drainGrace is how long Stop waits for the answers to polls that are under way.
	drainGrace = time.Second
)

// acceptPause is the pause after a failed accept (too many open files, for example).
var acceptPause = retry.Backoff{First: 5 * time.Millisecond, Last: time.Second}

// Server is the relay listener and everything that serves it. All its methods may be called from
// any goroutine.
type Server struct {
	env      *env
	tokens   *tokenCheck
	registry *registry
	keeper   *keeper
	poller   *poller

	// running ends when Stop begins: stopRunning ends it. loops are the goroutines that live until
	// then: the keeper, the poller and the accept loop.
	running     context.Context
	stopRunning context.CancelFunc
	loops       sync.WaitGroup
	// cutOff ends every append: Stop calls it when its own time is over.
	cutOff context.CancelCauseFunc
	// talking are the goroutines of sessions. Those of new sessions begin only in the accept loop.
	talking sync.WaitGroup
	stopped chan struct{} // closed when Stop is done; stopErr is set before
	stopErr error

	mu           sync.Mutex // guards what follows
	state        state
	sessions     map[*session]struct{} // every connection
	unidentified int                   // those that are not a relay's yet
}

type state uint8

const (
	stateNew state = iota
	stateStarted
	stateStopping
)

// New returns a server that knows again what it knew before: relays with their collectors, and
// overrides. It serves nothing yet. The error is an *[Error], or several joined.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	srv := &Server{tokens: newTokenCheck(o.Token, o.Now), stopped: make(chan struct{}),
		sessions: make(map[*session]struct{})}
	var appends context.Context
	appends, srv.cutOff = context.WithCancelCause(context.Background())
	srv.running, srv.stopRunning = context.WithCancel(appends)
	e := newEnv(appends, o)
	if err := e.overrides.load(e.log, e.Now(), e.tick()); err != nil {
		return nil, &Error{Op: "registry", Err: err}
	}
	store := &relayStore{env: e, db: o.DB}
	relays, err := store.load()
	if err != nil {
		return nil, &Error{Op: "registry", Err: err}
	}
	if err := o.Registerer.Register(e.m); err != nil {
		return nil, &Error{Op: "options", Subject: "Registerer", Err: err}
	}
	srv.env, srv.registry = e, newRegistry(e, relays)
	srv.keeper = &keeper{env: e, registry: srv.registry, store: store}
	srv.poller = &poller{schedule: e.schedule}
	return srv, nil
}

// Start accepts connections and polls. After the first call, and after Stop, it does nothing.
func (srv *Server) Start() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.state != stateNew {
		return
	}
	srv.state = stateStarted
	srv.loops.Go(func() { srv.keeper.run(srv.running) })
	srv.loops.Go(func() { srv.poller.run(srv.running) })
	srv.loops.Go(srv.accept)
}

// Addr returns the address that relays connect to.
func (srv *Server) Addr() net.Addr { return srv.env.Listener.Addr() }

// SetToken changes the token that relays must give from now on; "" asks for none. Relays that are
// connected stay so. The error is an *[Error]: no relay could send the token.
func (srv *Server) SetToken(token string) error {
	if token != "" && !relaywire.ValidToken(token) {
		return invalidOption("Token", tokenHint)
	}
	srv.tokens.set(token)
	return nil
}

// accept is the accept loop. Nothing in it depends on what a connection does.
func (srv *Server) accept() {
	var failures retry.Failures
	for {
		conn, err := srv.env.Listener.Accept()
		if err == nil {
			failures.End()
			srv.env.m.accepted.Inc()
			srv.serve(conn)
			continue
		}
		if srv.stopping() {
			return
		}
		srv.env.m.acceptErrors.Inc()
		if errors.Is(err, net.ErrClosed) {
			srv.env.log.Error("the relay listener was closed by somebody else; no relay can connect until a restart",
				"error", err)
			return
		}
		// Too many open files, most likely: relays that are connected go on, and closing
		// connections make room.
		srv.env.log.WarnRarely("accept", "cannot accept relays; trying again", "error", err,
			"hint", "raise the limit of open files if it is too low")
		retry.Sleep(srv.running, acceptPause.Pause(failures.Add()))
	}
}

// serve tracks a connection and starts its session. When too many have not said their id yet, the
// session does nothing but refuse; when too many of these go on, connections are closed at once.
func (srv *Server) serve(raw net.Conn) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	limit := srv.env.Limits.Unidentified
	full := srv.unidentified >= limit
	switch {
	case srv.state != stateStarted:
		raw.Close()
	case srv.unidentified >= limit+maxRefusals:
		srv.env.m.refused.WithLabelValues(refusedUnidentified).Inc()
		raw.Close()
	default:
		s := newSession(srv.env, srv.tokens, srv.registry, raw)
		srv.sessions[s] = struct{}{}
		srv.countUnidentified(+1)
		srv.talking.Go(func() { srv.talk(s, full) })
	}
}

// talk begins a session. A connection that does not become a relay counts as one without an id
// until it is closed.
func (srv *Server) talk(s *session, full bool) {
	identified := s.identify(full)
	if !identified {
		s.close()
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.countUnidentified(-1)
	if identified {
		srv.listen(s)
	} else {
		delete(srv.sessions, s)
	}
}

// listen serves a relay on a new goroutine. A stack that has grown hardly ever becomes smaller, and
// an idle relay needs a small one, so a session goes on with another goroutine before it waits for
// long.
func (srv *Server) listen(s *session) {
	srv.talking.Go(func() {
		if s.serve() {
			srv.listen(s)
			return
		}
		s.close()
		srv.mu.Lock()
		defer srv.mu.Unlock()
		delete(srv.sessions, s)
	})
}

// countUnidentified needs mu.
func (srv *Server) countUnidentified(change int) {
	srv.unidentified += change
	srv.env.m.unidentified.Set(float64(srv.unidentified))
}

func (srv *Server) stopping() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.state == stateStopping
}

// Stop closes the listener, sends no more polls, waits for the answers that are under way (a second
// at most) and for the journal to take them, closes every connection and stores the registry. When
// ctx ends first, appends and connections are cut off and the error reports it. In either case
// every goroutine has ended when it returns; further calls wait for the first one and return the
// same. A server that was never started can be stopped too.
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
	defer srv.cutOff(nil)
	srv.env.Listener.Close()
	if before == stateStarted {
		srv.stopErr = srv.stop(ctx)
	}
	return srv.stopErr
}

func (srv *Server) stop(ctx context.Context) error {
	srv.stopRunning()
	srv.loops.Wait()
	srv.env.recalls.stop()
	srv.env.overrides.settle()

	cut := make(chan struct{})
	inTime := context.AfterFunc(ctx, func() {
		defer close(cut)
		srv.cutOff(context.Cause(ctx))
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
	srv.talking.Wait()
	srv.env.events.flush()
	var errs []error
	if !inTime() {
		<-cut
		err := fmt.Errorf("connections and appends were cut off: %w", context.Cause(ctx))
		errs = append(errs, &Error{Op: "stop", Err: err})
	}
	if err := srv.keeper.write(); err != nil {
		errs = append(errs, &Error{Op: "stop", Subject: "registry", Err: err})
	}
	return errors.Join(errs...)
}

// open returns every connection.
func (srv *Server) open() []*session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return slices.Collect(maps.Keys(srv.sessions))
}
