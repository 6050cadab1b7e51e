package ingest

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nanopack/pulse/internal/nearest"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

// Relays returns every relay that is connected or remembered, in the order of their ids.
func (srv *Server) Relays() []Relay {
	relays := srv.registry.all()
	list := make([]Relay, 0, len(relays))
	tick := srv.env.tick()
	for _, r := range relays {
		list = append(list, r.describe(tick))
	}
	return list
}

// Override has the collectors polled at the intervals asked for, at the relays that are connected
// now, and sends it to those relays. Where two overrides name the same collector of a relay the
// newer one holds. It is stored before it takes effect and holds over restarts and reconnects until
// its time is over. The error is an *[Error] around ErrInvalid, ErrNotConnected, ErrTooMany,
// ErrStopped or the state file's.
func (srv *Server) Override(ctx context.Context, req OverrideRequest) (Override, error) {
	if err := req.Validate(); err != nil {
		return Override{}, err
	}
	o, err := srv.override(ctx, req)
	if err != nil {
		return Override{}, &Error{Op: "override", Err: err}
	}
	return o, nil
}

func (srv *Server) override(ctx context.Context, req OverrideRequest) (none Override, err error) {
	srv.env.overrides.change.Lock()
	defer srv.env.overrides.change.Unlock()
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case srv.stopping():
		return none, ErrStopped
	}
	relays := srv.registry.connectedOnes(req.Relays)
	if len(relays) == 0 {
		return none, fmt.Errorf("%w: see GET /relays for those that are", ErrNotConnected)
	}
	if !slices.ContainsFunc(relays, func(r *relay) bool { return r.hasAny(req.Collectors) }) {
		return none, fmt.Errorf("%w: none of the relays has one of these collectors; GET /relays lists them", ErrInvalid)
	}
	now, tick := srv.env.Now(), srv.env.tick()
	active := srv.env.overrides.all(tick)
	if len(active) >= MaxOverrides {
		return none, fmt.Errorf("%w: %d overrides hold already; cancel one first", ErrTooMany, MaxOverrides)
	}
	made := Override{ID: rand.Text()[:16], Created: now, Until: now.Add(req.Duration),
		Collectors: maps.Clone(req.Collectors)}
	for _, r := range relays {
		made.Relays = append(made.Relays, r.id)
	}
	o := newOverride(made, now, tick)
	if err := srv.env.overrides.set(append([]*override{o}, active...)); err != nil {
		return none, err
	}
	line := o.appendLine(nil, tick)
	for _, r := range relays {
		r.send(line)
	}
	srv.journalOverride(o, req.Duration, "override "+o.ID)
	return o.describe(tick), nil
}

// journalOverride journals for every relay of an override that it holds for duration from now on; 0
// is the end of it. That is also for relays which are not connected: their last readings are as old
// as the override allowed.
func (srv *Server) journalOverride(o *override, duration time.Duration, reason string) {
	for _, relay := range o.Relays {
		for _, item := range o.items {
			e := codec.RelayEvent{Relay: relay, Time: srv.env.Now().UnixNano(), Kind: codec.RelayOverride,
				Collector: item.Name, Reason: reason}
			if duration > 0 {
				e.Duration, e.Interval = duration, item.Interval
			}
			srv.env.events.put(e, nil)
		}
	}
}

// Overrides returns those that hold, the newest first.
func (srv *Server) Overrides() []Override {
	list := []Override{}
	tick := srv.env.tick()
	for _, o := range srv.env.overrides.all(tick) {
		list = append(list, o.describe(tick))
	}
	return list
}

// CancelOverride ends an override before its time. Its relays return to the intervals that hold
// without it: on the wire that is an override for a second with the normal interval, which replaces
// the other one and ends at once, because older relays know no other way. The error is an *[Error]
// around ErrNotFound, ErrStopped or the state file's.
func (srv *Server) CancelOverride(id string) error {
	if err := srv.cancelOverride(id); err != nil {
		return &Error{Op: "cancel", Subject: id, Err: err}
	}
	return nil
}

func (srv *Server) cancelOverride(id string) error {
	srv.env.overrides.change.Lock()
	defer srv.env.overrides.change.Unlock()
	if srv.stopping() {
		return ErrStopped
	}
	tick := srv.env.tick()
	active := srv.env.overrides.all(tick)
	i := indexOverride(active, id)
	if i < 0 {
		return fmt.Errorf("%w: GET /overrides lists those that hold", ErrNotFound)
	}
	o := active[i]
	if err := srv.env.overrides.set(slices.Delete(active, i, i+1)); err != nil {
		return err
	}
	normal := slices.Clone(o.items)
	for i := range normal {
		normal[i].Interval = srv.env.PollInterval
	}
	end := slices.Clip(relaywire.AppendOverride(nil, time.Second, normal))
	for _, r := range srv.registry.connectedOnes(o.Relays) {
		r.send(appendLines(end, r.intervals(tick).overrides, tick))
	}
	srv.journalOverride(o, 0, "override "+o.ID+" cancelled")
	return nil
}

// Flush tells relays to forget what their collectors have gathered: those that are named and
// connected, or all connected ones when none is named. It returns how many were told; relays of
// Pulse 0.2.3 ignore it.
func (srv *Server) Flush(relays []string) int {
	line := relaywire.AppendFlush(nil)
	told := 0
	for _, r := range srv.registry.connectedOnes(relays) {
		if r.send(line) {
			told++
		}
	}
	return told
}

// Forget forgets a relay that is not connected. The journal gets an event of it, from which
// projections learn that the relay is not expected to come back; then the relay leaves the
// overrides and the registry. A relay of that id that connects later is a new one.
//
// Everything is stored when Forget returns. The error is an *[Error] around ErrNotFound,
// ErrConnected, ErrStopped, the journal's, the state file's, or ctx's. Forget can then be called
// again; only when all that failed was to store it, the relay is forgotten already, and storing it
// is tried until it succeeds.
func (srv *Server) Forget(ctx context.Context, id string) error {
	if err := srv.forget(ctx, id); err != nil {
		return &Error{Op: "forget", Subject: id, Err: err}
	}
	return nil
}

func (srv *Server) forget(ctx context.Context, id string) error {
	srv.env.overrides.change.Lock()
	defer srv.env.overrides.change.Unlock()
	if srv.stopping() {
		return ErrStopped
	}
	r := srv.registry.get(id)
	if r == nil {
		return srv.unknownRelay(id)
	}
	// First the event: whatever fails after it leaves the relay listed, so that it can be forgotten
	// again.
	done := make(chan error, 1)
	if err := r.journalForgotten("by request", done); err != nil {
		return err
	}
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := srv.env.overrides.forget(id, srv.env.tick()); err != nil {
		return err
	}
	if err := srv.registry.forget(r); err != nil {
		return err
	}
	// The keeper would write it in a moment. But whoever has the answer that a relay is forgotten
	// should not see the relay again after a crash.
	return srv.keeper.store.flush()
}

// unknownRelay is the error for an id that no relay has.
func (srv *Server) unknownRelay(id string) error {
	var ids []string
	for _, r := range srv.registry.all() {
		ids = append(ids, r.id)
	}
	if like := nearest.Name(id, ids); like != "" {
		return fmt.Errorf("%w: no relay has this id; did you mean %q?", ErrNotFound, like)
	}
	return fmt.Errorf("%w: no relay has this id; GET /relays lists those that there are, as does pulse relays",
		ErrNotFound)
}
