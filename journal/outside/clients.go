package outside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/internal/quietlog"
	"github.com/nanopack/pulse/journal"
)

// ErrAddress means that Options.Address cannot be listened on; the cause says why.
var ErrAddress = errors.New("journal: the address for outside clients cannot be listened on; give another, or end what uses it")

// Clients serves other people's NATS clients, over all runs of the journal's server. It is the
// Outside of a journal's options. Its methods are safe for concurrent use.
type Clients struct {
	o         Options
	log       *quietlog.Logger
	m         *metrics
	admission *admission

	mu      sync.Mutex
	address string   // to listen on: that of the options, with the port that was taken
	addr    net.Addr // nil until clients are let in
	run     *run     // nil while the server does not run
}

var _ journal.Outside = (*Clients)(nil)

// New checks the options, and that the address is free: its error wraps [ErrAddress] if the address
// cannot be listened on. Clients are let in when a journal is opened with the Clients.
func New(ctx context.Context, o Options) (*Clients, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Address != "" {
		if err := available(ctx, o.Address); err != nil {
			return nil, err
		}
	}
	c := &Clients{o: o, log: quietlog.New(o.Logger), m: newMetrics(o.Registerer), address: o.Address}
	c.admission = newAdmission(o, c.refused)
	if o.Address != "" {
		c.m.gauges(o.Registerer, c.connections, c.consumers)
	}
	return c, nil
}

// available returns why an address cannot be listened on, nil if it can.
func available(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return nil
}

// Addr is the address on which clients are let in, nil if they are not. It stays the same over
// restarts of the server inside.
func (c *Clients) Addr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// SetPasswords changes what clients must give from now on: the password of those that may do all
// that is offered, and of those that only read. Those that are connected stay connected.
func (c *Clients) SetPasswords(password, reading string) {
	c.admission.passwords.Set(password, reading)
}

// Admit implements [journal.Outside].
func (c *Clients) Admit(client server.ClientAuthentication) (user string, ok bool) {
	given := client.GetOpts()
	from := guesses.Origin(client.RemoteAddress().String())
	switch c.admission.check(from, time.Now(), given.Username, given.Password) {
	case guesses.Everything:
		return clientUser, true
	case guesses.Reading:
		return readerUser, true
	}
	return "", false
}

// Open implements [journal.Outside].
func (c *Clients) Open(j *journal.Run) (journal.OutsideRun, error) {
	r := newRun(c, j)
	if err := r.boundConsumers(); err != nil {
		c.log.Error("the consumers of outside clients are not all within the bounds", "err", err)
	}
	if c.o.Address != "" {
		if err := r.serve(); err != nil {
			r.Close()
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = r
	return r, nil
}

// current is the current run of the server, nil while there is none.
func (c *Clients) current() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

// ended forgets a run.
func (c *Clients) ended(r *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == r {
		c.run = nil
	}
}

// listening notes the address that the server took. Its port is kept for the next run, also if any
// was asked for.
func (c *Clients) listening(addr net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	host, _, _ := net.SplitHostPort(c.address) // withDefaults has checked it
	c.address = net.JoinHostPort(host, strconv.Itoa(addr.(*net.TCPAddr).Port))
	c.addr = addr
}
