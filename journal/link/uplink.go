package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// UplinkOptions configure an Uplink. Address, Edge and Journal are required.
type UplinkOptions struct {
	// Address is the hub's host:port, Edge this Pulse's name there, Token what proves it.
	Address, Edge, Token string
	// TLS is how the hub is verified (nil: no TLS). The name to verify is that of Address if it names
	// none.
	TLS     *tls.Config
	Journal *journal.Journal
	// Release is this Pulse's, for the other end.
	Release string
	// Ask does what the hub passes on, and returns JSON. Its error is shown to who asked the hub; a
	// *Refused keeps its kind. It is called from any goroutine. nil refuses everything.
	Ask func(ctx context.Context, what string, body []byte) ([]byte, error)
	// Logger gets the log (nil: none), Registerer the metrics (nil: a private one).
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// endedPause is the pause after a link that ended.
const endedPause = 100 * time.Millisecond

// Uplink hands the events of an edge's journal over to a hub. It keeps nothing: the hub says at each
// connection what it has. Its methods may be called from any goroutine.
type Uplink struct {
	o        UplinkOptions
	log      *quietlog.Logger
	m        *uplinkMetrics
	instance string

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	again  chan struct{} // has one when there is no need to wait before the next attempt

	mu     sync.Mutex // guards the fields below
	token  string
	tls    *tls.Config
	status UplinkStatus // but for what Status adds
	notice remark
}

// NewUplink returns an Uplink that does nothing before Start.
func NewUplink(o UplinkOptions) (*Uplink, error) {
	if o.Address == "" || !codec.ValidEdge(o.Edge) || o.Journal == nil {
		return nil, errors.New("link: UplinkOptions needs an Address, the name of an Edge and a Journal")
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
	if o.Ask == nil {
		o.Ask = func(context.Context, string, []byte) ([]byte, error) {
			return nil, errors.New("this edge takes no requests")
		}
	}
	u := &Uplink{o: o, log: quietlog.New(o.Logger.With("hub", o.Address)), m: newUplinkMetrics(o.Registerer), instance: rand.Text(),
		again: make(chan struct{}, 1), token: o.Token, tls: o.TLS,
		status: UplinkStatus{Edge: o.Edge, Hub: o.Address, State: StateConnecting, Since: o.Now().UTC()}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	return u, nil
}

// Start connects, again and again.
func (u *Uplink) Start() {
	u.wg.Add(1)
	go func() {
		defer u.wg.Done()
		u.run()
	}()
}

// Stop ends the link. It returns when nothing of it runs, or when ctx ends.
func (u *Uplink) Stop(ctx context.Context) error {
	u.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("link: the link to the hub is still open: %w", ctx.Err())
	}
}

// SetToken changes the token. The next connection gives it; a refused edge tries it at once.
func (u *Uplink) SetToken(token string) {
	u.mu.Lock()
	u.token = token
	u.mu.Unlock()
	u.hurry()
}

// SetTLS changes how the hub is verified. The next connection uses it.
func (u *Uplink) SetTLS(config *tls.Config) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tls = config
}

// hurry ends a wait for the next attempt.
func (u *Uplink) hurry() {
	select {
	case u.again <- struct{}{}:
	default:
	}
}

// Status tells how the link does.
func (u *Uplink) Status() UplinkStatus {
	last := u.o.Journal.LastSeq()
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	s.Gaps = slices.Clone(s.Gaps)
	s.Notice = u.notice.at(u.o.Now())
	s.Last = last
	if s.Known {
		s.Lacks = last - min(s.HubHas, last)
	}
	return s
}

// set changes the state, if it is another one.
func (u *Uplink) set(state, problem string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.status.State != state {
		u.status.State, u.status.Since = state, u.o.Now().UTC()
	}
	u.status.Error = problem
	connected := 0.0
	if state == StateConnected {
		connected = 1
	}
	u.m.connected.Set(connected)
}

func (u *Uplink) run() {
	u.pulse()
	for u.ctx.Err() == nil {
		c, g := u.connect()
		if c == nil {
			return // stopped
		}
		pause := u.session(c, g)
		if pause <= 0 {
			continue
		}
		select {
		case <-u.again:
		case <-time.After(pause):
		case <-u.ctx.Done():
		}
	}
}

// pulse keeps the gauge of what the hub lacks.
func (u *Uplink) pulse() {
	u.wg.Go(func() {
		every(u.ctx, func() bool {
			if s := u.Status(); s.Known {
				u.m.lacks.Set(float64(s.Lacks))
			}
			return true
		})
	})
}

// session is a connection from its greeting to its end. It returns how long to wait before the next.
func (u *Uplink) session(c *conn, g greeting) time.Duration {
	ctx, cancel := context.WithCancel(u.ctx)
	s := &handover{u: u, c: c, ctx: ctx}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // whoever reads or writes sees it
	err := s.run(g)
	cancel()
	stop()
	_ = c.Close() // it may be closed already
	s.wg.Wait()
	if u.ctx.Err() != nil {
		return 0
	}
	refused, is := errors.AsType[*refusedError](err)
	if is {
		u.set(StateRefused, refused.Reason)
		u.log.WarnRarely("refused", "the hub does not take this edge", "reason", refused.Reason)
		return max(time.Duration(refused.AgainMS)*time.Millisecond, endedPause)
	}
	u.set(StateConnecting, "the link ended: "+why(err))
	u.log.WarnRarely("ended", "the link to the hub ended; the journal keeps what the hub lacks", "reason", why(err))
	return endedPause
}
