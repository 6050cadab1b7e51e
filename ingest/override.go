package ingest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/internal/seal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// MaxOverride is how long an override may last.
	MaxOverride = 7 * 24 * time.Hour
	// MaxOverrides is how many may hold at the same time.
	MaxOverrides = 100
)

var overridesBucket = []byte("overrides")

// OverrideRequest asks for some collectors to be polled at other intervals for a while.
type OverrideRequest struct {
	// Duration is how long: whole seconds, at most MaxOverride.
	Duration time.Duration
	// Collectors are their names and intervals: whole seconds, not longer than Duration.
	Collectors map[string]time.Duration
	// Relays are the ids of the relays it is for; empty means all. Those that are not connected are left out.
	Relays []string
}

// Override is an override that holds.
type Override struct {
	ID             string
	Created, Until time.Time
	Collectors     map[string]time.Duration
	// Relays are the ids of the relays that were connected when it was made, sorted. It holds for no other.
	Relays []string
}

// override is an Override as it is used. It never changes.
type override struct {
	Override
	// ends is Until in poller time: setting the clock does not change how long it holds.
	ends   int64
	relays map[string]struct{}
	items  []relaywire.OverrideItem
}

// storedOverride is the JSON of an override in the bucket "overrides", under its id. Times and intervals are in ns.
type storedOverride struct {
	V          int                      `json:"v"`
	Created    int64                    `json:"created"`
	Until      int64                    `json:"until"`
	Collectors map[string]time.Duration `json:"collectors"`
	Relays     []string                 `json:"relays"`
}

// newOverride needs the time by both clocks.
func newOverride(o Override, now time.Time, tick int64) *override {
	ov := &override{Override: o, ends: tick + int64(o.Until.Sub(now)), relays: make(map[string]struct{}, len(o.Relays))}
	for _, id := range o.Relays {
		ov.relays[id] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Collectors)) {
		ov.items = append(ov.items, relaywire.OverrideItem{Name: name, Interval: o.Collectors[name]})
	}
	return ov
}

// appendLine appends the line for the time that remains.
func (o *override) appendLine(dst []byte, tick int64) []byte {
	return relaywire.AppendOverride(dst, time.Duration(o.ends-tick), o.items)
}

// indexOverride returns the place of the override with that id, -1 if it is not there. An id can have several values in turn: see
// without.
func indexOverride(list []*override, id string) int {
	return slices.IndexFunc(list, func(o *override) bool { return o.ID == id })
}

// without returns the override for its other relays.
func (o *override) without(relay string) *override {
	c := *o
	c.Relays = slices.DeleteFunc(slices.Clone(o.Relays), func(id string) bool { return id == relay })
	c.relays = maps.Clone(o.relays)
	delete(c.relays, relay)
	return &c
}

// describe returns a copy that the caller may change.
func (o *override) describe() Override {
	d := o.Override
	d.Collectors, d.Relays = maps.Clone(d.Collectors), slices.Clone(d.Relays)
	return d
}

// overrides are those that hold, the newest first, as they are in the state file.
type overrides struct {
	db *bolt.DB

	change sync.Mutex // one change at a time: held around the transaction and what follows from it; comes before every other lock
	mu     sync.Mutex // guards active
	active []*override
}

// settle waits for a change that is under way.
func (ov *overrides) settle() {
	ov.change.Lock()
	defer ov.change.Unlock()
}

// of returns those that hold for the relay, the newest first.
func (ov *overrides) of(relay string, tick int64) []*override {
	ov.mu.Lock()
	defer ov.mu.Unlock()
	var list []*override
	for _, o := range ov.active {
		if _, ok := o.relays[relay]; ok && o.ends > tick {
			list = append(list, o)
		}
	}
	return list
}

// all returns those that hold.
func (ov *overrides) all(tick int64) []*override {
	ov.mu.Lock()
	defer ov.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(ov.active), func(o *override) bool { return o.ends <= tick })
}

// set replaces those that hold by list, which is the new state after the transaction that put and deleted.
func (ov *overrides) set(list, put []*override, deleted []string) error {
	err := ov.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(overridesBucket)
		if err != nil {
			return err
		}
		for _, id := range deleted {
			if err := b.Delete([]byte(id)); err != nil {
				return err
			}
		}
		for _, o := range put {
			v, err := json.Marshal(storedOverride{V: 1, Created: o.Created.UnixNano(), Until: o.Until.UnixNano(), Collectors: o.Collectors, Relays: o.Relays})
			if err != nil {
				return err
			}
			if err := b.Put([]byte(o.ID), seal.Seal([]byte(o.ID), v)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	ov.mu.Lock()
	ov.active = list
	ov.mu.Unlock()
	return nil
}

// forget takes a relay out of those that hold. One that was for no other relay ends. It needs change.
func (ov *overrides) forget(relay string, tick int64) error {
	var list, put []*override
	var deleted []string
	for _, o := range ov.all(tick) {
		if _, ok := o.relays[relay]; ok {
			if o = o.without(relay); len(o.relays) == 0 {
				deleted = append(deleted, o.ID)
				continue
			}
			put = append(put, o)
		}
		list = append(list, o)
	}
	if len(put)+len(deleted) == 0 {
		return nil
	}
	return ov.set(list, put, deleted)
}

// expire deletes those that have ended. It needs change.
func (ov *overrides) expire(tick int64) error {
	ov.mu.Lock()
	active := ov.active
	ov.mu.Unlock()
	var deleted []string
	for _, o := range active {
		if o.ends <= tick {
			deleted = append(deleted, o.ID)
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	return ov.set(ov.all(tick), nil, deleted)
}

// loadOverrides reads what was stored and deletes what has ended meanwhile, or cannot be read.
func (srv *Server) loadOverrides() error {
	now, tick := srv.opt.Now(), srv.poller.clock()
	var active []*override
	var deleted []string
	err := srv.opt.DB.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(overridesBucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			var s storedOverride
			if err := json.Unmarshal(seal.Open(v), &s); err != nil || s.V != 1 {
				srv.log.Warn("a stored override cannot be read; it is deleted", "id", string(k), "version", s.V, "error", err)
				deleted = append(deleted, string(k))
				return nil
			}
			o := newOverride(Override{ID: string(k), Created: time.Unix(0, s.Created), Until: time.Unix(0, s.Until), Collectors: s.Collectors, Relays: s.Relays}, now, tick)
			if o.ends <= tick {
				deleted = append(deleted, o.ID)
			} else {
				active = append(active, o)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(active, func(a, b *override) int { return b.Created.Compare(a.Created) })
	return srv.overrides.set(active, nil, deleted)
}

// Override has the collectors polled at the intervals asked for, at the relays that are connected now, and tells those relays. Where
// two overrides name the same collector of a relay the newer one holds. It is stored before it takes effect and holds over restarts and
// reconnects until its time is over. The error is an *[Error] around ErrInvalid, ErrNotConnected, ErrTooMany, ErrStopped or the
// state file's.
func (srv *Server) Override(ctx context.Context, req OverrideRequest) (Override, error) {
	fail := func(subject string, err error) (Override, error) {
		return Override{}, &Error{Op: "override", Subject: subject, Err: err}
	}
	if subject, err := req.validate(); err != nil {
		return fail(subject, err)
	}
	srv.overrides.change.Lock()
	defer srv.overrides.change.Unlock()
	switch {
	case ctx.Err() != nil:
		return fail("", ctx.Err())
	case srv.stopping():
		return fail("", ErrStopped)
	}
	relays := srv.connected(req.Relays)
	if len(relays) == 0 {
		return fail("", fmt.Errorf("%w: see GET /relays for those that are", ErrNotConnected))
	}
	if !anyHas(relays, req.Collectors) {
		return fail("", fmt.Errorf("%w: none of the relays has one of these collectors; GET /relays lists them", ErrInvalid))
	}
	now, tick := srv.opt.Now(), srv.poller.clock()
	active := srv.overrides.all(tick)
	if len(active) >= MaxOverrides {
		return fail("", fmt.Errorf("%w: %d overrides hold already; cancel one first", ErrTooMany, MaxOverrides))
	}
	if err := srv.overrides.expire(tick); err != nil {
		return fail("", err)
	}
	o := Override{ID: rand.Text()[:16], Created: now, Until: now.Add(req.Duration), Collectors: maps.Clone(req.Collectors)}
	for _, r := range relays {
		o.Relays = append(o.Relays, r.id)
	}
	ov := newOverride(o, now, tick)
	if err := srv.overrides.set(append([]*override{ov}, active...), []*override{ov}, nil); err != nil {
		return fail("", err)
	}
	line := ov.appendLine(nil, tick)
	for _, r := range relays {
		srv.apply(r, ov, line, now, tick)
	}
	return ov.describe(), nil
}

// apply makes an override hold at one of its relays, unless the relay has reconnected in this moment and has it already.
func (srv *Server) apply(r *relay, o *override, line []byte, now time.Time, tick int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if indexOverride(r.overrides, o.ID) >= 0 {
		return
	}
	r.overrides = slices.Insert(slices.Clone(r.overrides), 0, o)
	if r.sess != nil {
		r.sess.send(line)
		srv.poller.schedule(r, r.next(tick, srv.opt.PollInterval))
	}
	for _, item := range o.items {
		srv.events.put(codec.RelayEvent{Relay: r.id, Time: now.UnixNano(), Kind: codec.RelayOverride,
			Collector: item.Name, Duration: o.Until.Sub(o.Created), Interval: item.Interval, Reason: "override " + o.ID})
	}
}

// Overrides returns those that hold, the newest first.
func (srv *Server) Overrides() []Override {
	list := []Override{}
	for _, o := range srv.overrides.all(srv.poller.clock()) {
		list = append(list, o.describe())
	}
	return list
}

// CancelOverride ends an override before its time. Its relays are told to return to the intervals that hold without
// it. The error is an *[Error] around ErrNotFound, ErrStopped or the state file's.
func (srv *Server) CancelOverride(id string) error {
	srv.overrides.change.Lock()
	defer srv.overrides.change.Unlock()
	if srv.stopping() {
		return &Error{Op: "cancel", Subject: id, Err: ErrStopped}
	}
	now, tick := srv.opt.Now(), srv.poller.clock()
	active := srv.overrides.all(tick)
	i := indexOverride(active, id)
	if i < 0 {
		return &Error{Op: "cancel", Subject: id, Err: fmt.Errorf("%w: GET /overrides lists those that hold", ErrNotFound)}
	}
	o := active[i]
	if err := srv.overrides.set(slices.Delete(active, i, i+1), nil, []string{id}); err != nil {
		return &Error{Op: "cancel", Subject: id, Err: err}
	}
	for _, id := range o.Relays {
		if r := srv.registry.get(id); r != nil {
			srv.withdraw(r, o, tick)
		}
		// Also of relays that are not connected since a restart: their last readings are as old as the override allowed.
		for _, item := range o.items {
			srv.events.put(codec.RelayEvent{Relay: id, Time: now.UnixNano(), Kind: codec.RelayOverride, Collector: item.Name, Reason: "override " + o.ID + " cancelled"})
		}
	}
	return nil
}

// withdraw ends an override at one of its relays. On the wire that is an override for a second with the interval that
// holds otherwise, which replaces the other one and ends at once: older relays know no other way.
func (srv *Server) withdraw(r *relay, o *override, tick int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := indexOverride(r.overrides, o.ID)
	if i < 0 {
		return
	}
	r.overrides = slices.Delete(slices.Clone(r.overrides), i, i+1)
	if r.sess != nil {
		items := slices.Clone(o.items)
		for i := range items {
			items[i].Interval = srv.opt.PollInterval
		}
		lines := relaywire.AppendOverride(nil, time.Second, items)
		for i := len(r.overrides) - 1; i >= 0; i-- {
			lines = r.overrides[i].appendLine(lines, tick)
		}
		r.sess.send(lines)
		srv.poller.schedule(r, r.next(tick, srv.opt.PollInterval))
	}
}

// Flush tells relays to forget what their collectors have gathered: those that are named and connected, or all connected ones
// when none is named. It returns how many were told; relays of Pulse 0.2.3 ignore it.
func (srv *Server) Flush(relays []string) int {
	line := relaywire.AppendFlush(nil)
	told := 0
	for _, r := range srv.connected(relays) {
		r.mu.Lock()
		if r.sess != nil && r.sess.send(line) {
			told++
		}
		r.mu.Unlock()
	}
	return told
}

// connected returns the connected relays among ids, or all of them if ids is empty, in the order of their ids.
func (srv *Server) connected(ids []string) []*relay {
	list := srv.registry.all()
	return slices.DeleteFunc(list, func(r *relay) bool {
		if len(ids) > 0 && !slices.Contains(ids, r.id) {
			return true
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.sess == nil
	})
}

func anyHas(relays []*relay, collectors map[string]time.Duration) bool {
	for _, r := range relays {
		r.mu.Lock()
		for name := range collectors {
			if r.byName[name] != nil {
				r.mu.Unlock()
				return true
			}
		}
		r.mu.Unlock()
	}
	return false
}

// validate returns what is wrong, and with what.
func (req OverrideRequest) validate() (subject string, err error) {
	whole := func(d, most time.Duration) bool { return d >= time.Second && d <= most && d%time.Second == 0 }
	if !whole(req.Duration, MaxOverride) {
		return "duration", fmt.Errorf("%w: use whole seconds from 1 to %d", ErrInvalid, int(MaxOverride.Seconds()))
	}
	if len(req.Collectors) == 0 {
		return "collectors", fmt.Errorf("%w: name at least one collector and its interval", ErrInvalid)
	}
	for name, interval := range req.Collectors {
		if err := relaywire.CheckName(name); err != nil {
			return name, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if !whole(interval, req.Duration) {
			return name, fmt.Errorf("%w: use whole seconds from 1 to the duration as its interval", ErrInvalid)
		}
	}
	return "", nil
}

// interval returns how often the collector is polled. It needs mu.
func (r *relay) interval(collector string, now int64, normal time.Duration) time.Duration {
	for _, o := range r.overrides {
		if interval, ok := o.Collectors[collector]; ok && o.ends > now {
			return interval
		}
	}
	return normal
}

// pruneOverrides needs mu.
func (r *relay) pruneOverrides(now int64) {
	ended := func(o *override) bool { return o.ends <= now }
	if slices.ContainsFunc(r.overrides, ended) {
		r.overrides = slices.DeleteFunc(slices.Clone(r.overrides), ended)
	}
}
