package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// Relay is a program's connection to Pulse. All methods may be called from any goroutine.
type Relay struct {
	o      Options // its Token and TLS are the initial ones; see token and tls
	ctx    context.Context
	cancel context.CancelFunc
	// first is closed when the first attempt to connect has ended, done when the connecting
	// goroutine has ended.
	first, done chan struct{}
	// spool is nil for a relay without one.
	spool *handover
	// saidUnasked belongs to the connecting goroutine. It is set when the goroutine has logged that
	// the server wants no token.
	saidUnasked bool

	mu            sync.Mutex  // guards the fields below; taken before session.mu and worker.mu
	token         string      // of the next connection
	tls           *tls.Config // of the next connection
	closed        bool
	collectors    map[string]*worker
	running       map[*worker]struct{} // also removed ones that have not ended yet
	session       *session             // nil while not connected
	state         State
	saidComplaint onceAMinute
	changed       chan struct{} // closed and replaced when session or closed changes
	closing       chan struct{} // nil until Close; closed when Close has finished
	closeErr      error         // written before closing is closed
}

// State is the state of the connection.
type State struct {
	// Connected reports whether the connection is up and the server has accepted the relay. Since
	// is the time of the last change of Connected.
	Connected bool
	Since     time.Time
	// Connects counts how many times the server accepted the relay: all but the first are
	// reconnects.
	Connects uint64
	// LastError is why the connection was last lost or could not be made, or the server's last
	// complaint; nil if there was neither. It stays after a reconnect.
	LastError error
	// Beat is the heartbeat that the server asked for; 0 before the server has named one.
	Beat time.Duration
	// Complaints counts the server's error lines: why it refused something or closed the
	// connection. LastError holds the newest one until another error replaces it.
	Complaints uint64
	// Polls counts the answered get lines, Readings the values in the answers. Skipped counts the
	// get lines that were dropped because more than 64 were waiting.
	Polls, Readings, Skipped uint64
	// Spool is the state of the spool; zero without one.
	Spool SpoolState
}

// NewRelay connects to the server at address (host:port) as id. As in Pulse 0.2, it fails if the
// server cannot be reached or does not accept the relay within ten seconds. Later the relay
// reconnects by itself. NewRelay is short for New with the defaults and a wait for the first
// attempt.
func NewRelay(address, id string) (*Relay, error) {
	r, err := New(Options{Address: address, ID: id})
	if err != nil {
		return nil, err
	}
	<-r.first
	if s := r.State(); s.Connects == 0 {
		_ = r.Close()
		return nil, s.LastError
	}
	return r, nil
}

// New makes a relay that connects in the background and keeps trying until Close. The error is only
// about the options, the spool's directory among them.
func New(o Options) (*Relay, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	r := &Relay{
		o: o, token: o.Token, tls: o.TLS, first: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		collectors: map[string]*worker{}, running: map[*worker]struct{}{}, state: State{Since: time.Now()},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if o.Spool != nil {
		if r.spool, err = newHandover(r, *o.Spool); err != nil {
			r.cancel()
			return nil, &Error{Op: "new", Subject: "Spool", Err: err}
		}
		go r.spool.collect()
	}
	go r.run()
	return r, nil
}

// SetCredentials changes what the relay uses for its next connections: the token, and the TLS
// configuration unless conf is nil. The current connection stays. The error is ErrName, or
// ErrOptions for a relay that was made without TLS, in an *Error; after an error nothing has
// changed.
func (r *Relay) SetCredentials(token string, conf *tls.Config) error {
	if token != "" && !relaywire.ValidToken(token) {
		return &Error{Op: "change", Subject: "Token", Err: ErrName}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if conf != nil {
		if r.tls == nil {
			return &Error{Op: "change", Subject: "TLS", Err: ErrOptions, Detail: "the relay was made without it"}
		}
		conf = conf.Clone()
		conf.ServerName = cmp.Or(conf.ServerName, r.tls.ServerName)
		r.tls = conf
	}
	r.token = token
	return nil
}

// credentials returns the token and the TLS configuration of the next connection.
func (r *Relay) credentials() (token string, conf *tls.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token, r.tls
}

// AddCollector makes the server poll c under name, now and after every reconnect. Tags (key:value
// or a bare word) go with all its readings; empty tags are ignored. A nil error means that the
// relay accepted the collector; the server shows that it accepted the collector by polling it. The
// error is ErrName, ErrReserved, ErrDuplicate, ErrClosed or ErrOptions, in an *Error.
func (r *Relay) AddCollector(name string, tags []string, c Collector) error {
	fail := func(err error, detail string) error {
		return &Error{Op: "add", Subject: name, Err: err, Detail: detail}
	}
	switch err := relaywire.CheckName(name); err {
	case nil:
	case relaywire.ErrReserved:
		return fail(ErrReserved, "")
	default:
		return fail(ErrName, "the name")
	}
	tags = slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return tag == "" })
	for _, tag := range tags {
		if !relaywire.ValidTag(tag) {
			return fail(ErrName, "tag "+tag)
		}
	}
	switch {
	case len(tags) > relaywire.MaxTags:
		return fail(ErrOptions, "a collector may have 64 tags")
	case c == nil:
		return fail(ErrOptions, "give a collector")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fail(ErrClosed, "")
	}
	if r.collectors[name] != nil {
		return fail(ErrDuplicate, "")
	}
	w := newWorker(name, tags, c, r.o.CollectTimeout, r.o.Logger)
	r.collectors[name], r.running[w] = w, struct{}{}
	w.onEnd = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, w)
	}
	go w.run()
	if r.session != nil {
		r.session.send(func(dst []byte) []byte { return relaywire.AppendAdd(dst, name, tags) })
	}
	if r.spool != nil {
		r.spool.poke()
	}
	return nil
}

// RemoveCollector makes the server stop polling the collector of that name; it does nothing if
// there is no such collector. RemoveCollector does not wait for a running call of Collect, so that
// a collector may remove itself.
func (r *Relay) RemoveCollector(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.collectors[name]; w != nil {
		r.remove(w)
	}
}

// remove is called with mu held.
func (r *Relay) remove(w *worker) {
	delete(r.collectors, w.name)
	close(w.stop)
	if r.session != nil {
		r.session.send(func(dst []byte) []byte { return relaywire.AppendRemove(dst, w.name) })
	}
}

// Info returns the collectors, sorted by name. It collects nothing.
func (r *Relay) Info() []Info {
	workers := r.all()
	infos := make([]Info, len(workers))
	for i, w := range workers {
		infos[i] = w.snapshot()
	}
	return infos
}

// State returns the state of the connection.
func (r *Relay) State() State {
	r.mu.Lock()
	st := r.state
	r.mu.Unlock()
	if r.spool != nil {
		st.Spool = r.spool.state()
	}
	return st
}

// Wait returns nil as soon as the relay is connected, and ErrClosed when it is closed. When ctx
// ends first, Wait returns the reason why the relay is not connected yet, joined with ctx's error.
func (r *Relay) Wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		connected, closed, last, changed := r.session != nil, r.closed, r.state.LastError, r.changed
		r.mu.Unlock()
		switch {
		case closed:
			return &Error{Op: "wait", Subject: r.o.Address, Err: ErrClosed}
		case connected:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(last, context.Cause(ctx))
		}
	}
}

// Close tells the server that the collectors and this relay are leaving, disconnects, and returns
// when every goroutine has ended. The network gets two seconds for the farewell, and a running
// Collect gets the collect timeout: if it does not return in time, the error is ErrStuck and names
// the collector. What waits in a spool's directory stays there for the next start. Close may be called more than once, but not by a collector.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closing != nil {
		closing := r.closing
		r.mu.Unlock()
		<-closing
		return r.closeErr
	}
	closing := make(chan struct{})
	r.closing, r.closed = closing, true
	for _, name := range sortedKeys(r.collectors) {
		r.remove(r.collectors[name])
	}
	s := r.session
	if s != nil {
		s.send(relaywire.AppendClose)
		s.finish()
	}
	r.announce()
	r.mu.Unlock()

	if s != nil {
		select {
		case <-s.ctx.Done():
		case <-time.After(farewell):
		}
	}
	r.cancel()
	<-r.done
	var spoolErr error
	if r.spool != nil {
		spoolErr = r.spool.close()
	}
	r.closeErr = errors.Join(r.waitForCollectors(), spoolErr)
	close(closing)
	return r.closeErr
}

func (r *Relay) waitForCollectors() error {
	r.mu.Lock()
	var running []*worker
	for w := range r.running {
		running = append(running, w)
	}
	r.mu.Unlock()
	timeout := time.NewTimer(r.o.CollectTimeout)
	defer timeout.Stop()
	var stuck []string
	for _, w := range running {
		select {
		case <-w.ended:
			continue
		case <-timeout.C:
			timeout.Reset(0)
		}
		if !w.hasEnded() {
			stuck = append(stuck, w.name)
		}
	}
	if stuck == nil {
		return nil
	}
	slices.Sort(stuck)
	return &Error{Op: "close", Subject: strings.Join(stuck, ", "), Err: ErrStuck}
}

func (r *Relay) setBeat(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Beat = d
}

func (r *Relay) complained(reason string) {
	r.mu.Lock()
	r.state.Complaints++
	r.state.LastError = &Error{Op: "talk to", Subject: r.o.Address, Err: ErrRefused, Detail: reason}
	may := r.saidComplaint.may(time.Now())
	r.mu.Unlock()
	if may {
		r.o.Logger.Warn("relay: the server complains", "server", r.o.Address, "reason", reason)
	}
}

func (r *Relay) countPoll(readings int, skipped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if skipped {
		r.state.Skipped++
		return
	}
	r.state.Polls++
	r.state.Readings += uint64(readings)
}

func (r *Relay) find(name string) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.collectors[name]
}

// all returns the collectors sorted by name.
func (r *Relay) all() []*worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	workers := make([]*worker, 0, len(r.collectors))
	for _, name := range sortedKeys(r.collectors) {
		workers = append(workers, r.collectors[name])
	}
	return workers
}

// names returns the collectors' names, sorted.
func (r *Relay) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedKeys(r.collectors)
}
