package outside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/internal/retry"
	"github.com/nanopack/pulse/journal"
)

// listenRetry is the pause between two attempts to listen again after a restart of the server
// inside.
const listenRetry = time.Second

// run is what serves clients in one run of the server: the filter of their requests, and the
// connections that publish live readings and copies of what was committed. If nobody is let in it
// has none of these.
type run struct {
	*journal.Run
	c      *Clients
	ctx    context.Context // ends with the run
	cancel context.CancelFunc
	wg     sync.WaitGroup

	account *server.Account // in which clients are
	filter  *filter
	live    *fanout
	copies  *copies

	mu     sync.Mutex // held while the listener is opened
	closed bool
}

func newRun(c *Clients, j *journal.Run) *run {
	r := &run{Run: j, c: c}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// serve connects what the run needs for clients, and lets them in. On a first run it fails if the
// address cannot be listened on. On a later one it tries again until it can: the journal does not
// wait for that.
func (r *run) serve() error {
	if err := r.connect(); err != nil {
		return &journal.Error{Op: "open", Dir: r.Dir, Kind: journal.ErrServer, Err: err}
	}
	err := r.listen()
	if err != nil && r.c.Addr() == nil {
		return err
	}
	r.wg.Go(func() { r.copies.publish(r.ctx) })
	r.wg.Go(newMeter(r).watch)
	if err != nil {
		r.c.log.Error("outside clients cannot be let in; it is tried again", "err", err)
		r.wg.Go(r.listenAgain)
	}
	return nil
}

func (r *run) connect() (err error) {
	if r.account, err = r.Server.LookupAccount(accountClients); err != nil {
		return err
	}
	if r.filter, err = newFilter(r); err != nil {
		return err
	}
	if r.live, err = newFanout(r, userLive); err != nil {
		return err
	}
	r.copies, err = newCopies(r)
	return err
}

// listen opens the listener. The server writes only to its log why it cannot, so the address is
// tried before.
func (r *run) listen() error {
	r.c.mu.Lock()
	address := r.c.address
	r.c.mu.Unlock()
	if err := available(r.ctx, address); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil // and nobody waits for it any more
	}
	r.Server.AcceptLoop(make(chan struct{}))
	addr := r.Server.Addr()
	if addr == nil {
		return fmt.Errorf("%w: %s; see the log", ErrAddress, address)
	}
	r.c.listening(addr)
	return nil
}

// listenAgain listens as soon as the address is free.
func (r *run) listenAgain() {
	for retry.Sleep(r.ctx, listenRetry) {
		if r.listen() == nil {
			r.c.log.Info("outside clients are let in again", "addr", r.c.Addr())
			return
		}
	}
}

// Committed implements [journal.OutsideRun].
func (r *run) Committed(events []journal.Message) {
	if r.copies != nil {
		r.copies.add(events)
	}
}

// Close implements [journal.OutsideRun]. The server, which is stopped next, closes the listener.
func (r *run) Close() {
	r.c.ended(r)
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	if r.filter != nil {
		r.filter.close()
	}
	if r.live != nil {
		r.live.conn.Close()
	}
	if r.copies != nil {
		r.copies.conn.Close()
	}
	r.wg.Wait()
}

// dial makes a connection that comes back by itself until it is closed or the run ends. dropped is
// counted up for each message that came while too many of its kind were waiting.
func (r *run) dial(user, name string, dropped func()) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(r.Server), nats.Name(name), nats.UserInfo(user, r.Password),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				dropped()
			}
		}),
		nats.CustomInboxPrefix("_INBOX."+name), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectBufSize(-1), nats.FlusherTimeout(time.Second), nats.Timeout(10*time.Second), nats.PingInterval(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded server: %w", err)
	}
	return nc, nil
}
