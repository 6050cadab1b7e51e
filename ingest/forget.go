package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/journal/codec"
)

// Forget forgets a relay that is not connected. The journal gets an event of it, from which projections learn that the relay is
// not expected to come back; then it leaves the overrides and the registry. A relay of that id that connects later is a new one.
//
// Everything is stored when Forget returns. The error is an *[Error] around ErrNotFound, ErrConnected, ErrStopped, the journal's, the
// state file's, or ctx's. Forget can then be called again; only when all that failed was to store it, the relay is forgotten
// already, and storing it is tried until it succeeds.
func (srv *Server) Forget(ctx context.Context, id string) error {
	if err := srv.forget(ctx, id); err != nil {
		return &Error{Op: "forget", Subject: id, Err: err}
	}
	return nil
}

func (srv *Server) forget(ctx context.Context, id string) error {
	srv.overrides.change.Lock()
	defer srv.overrides.change.Unlock()
	if srv.stopping() {
		return ErrStopped
	}
	r := srv.registry.get(id)
	if r == nil {
		return srv.unknownRelay(id)
	}
	// First the event: whatever fails after it leaves the relay listed, so that it can be forgotten again.
	r.mu.Lock()
	if r.sess != nil {
		defer r.mu.Unlock()
		return r.isConnected()
	}
	written := srv.events.write(r.forgotten(srv.opt.Now(), "by request"))
	r.mu.Unlock()
	select {
	case err := <-written:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := srv.overrides.forget(id, srv.poller.clock()); err != nil {
		return err
	}
	if !srv.registry.release(r) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.isConnected()
	}
	// The store would do it in a moment. Who is told that a relay is forgotten should not see it again after a crash.
	return srv.store.put([]string{id})
}

// unknownRelay is the error for an id that no relay has.
func (srv *Server) unknownRelay(id string) error {
	all := srv.registry.all()
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.id
	}
	if like := nearest.Name(id, ids); like != "" {
		return fmt.Errorf("%w: no relay has this id; did you mean %q?", ErrNotFound, like)
	}
	return fmt.Errorf("%w: no relay has this id; GET /relays lists those that there are, as does pulse relays", ErrNotFound)
}

// isConnected is the error for a relay that may not be forgotten because it is connected. It needs mu.
func (r *relay) isConnected() error {
	from := ""
	if r.sess != nil {
		from = " from " + r.sess.raw.RemoteAddr().String()
	}
	return fmt.Errorf("the relay is %w%s: stop it first, or it would be back at once", ErrConnected, from)
}

// memorable says whether there is something to remember of a relay that is not connected: it has collectors, or it has answered. One
// that took its collectors back before it left is as silent as any other, until somebody forgets it. It needs mu.
func (r *relay) memorable() bool { return len(r.collectors) > 0 || r.seen() != 0 }

// forgotten is the event of a relay's being forgotten. No reading of the relay before it has a later time. It needs mu.
func (r *relay) forgotten(now time.Time, reason string) codec.RelayEvent {
	return codec.RelayEvent{Relay: r.id, Time: max(now.UnixNano(), r.seen()), Kind: codec.RelayForgotten, Reason: reason}
}

// release takes a relay out of the registry, unless it has connected meanwhile.
func (g *registry) release(r *relay) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.relays[r.id] != r:
		return true // it was forgotten meanwhile
	case r.sess != nil:
		return false
	}
	g.remove(r)
	g.count()
	return true
}

// remove needs mu. The relay is not connected.
func (g *registry) remove(r *relay) {
	g.gone.Remove(r.gone)
	r.gone = nil
	delete(g.relays, r.id)
	g.store.changed(r.id)
	g.m.forgotten.Inc()
}
