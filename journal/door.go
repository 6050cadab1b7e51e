package journal

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// doorRetry is the pause between two attempts to listen again after a restart of the server inside.
const doorRetry = time.Second

// writeDeadline is how long a client may take nothing at all. The server ends a connection with too much waiting only
// when the write that is under way returns, and until then a consumer sends to it, in vain, as fast as it can read.
const writeDeadline = 3 * time.Second

// door is what a run of the server has open to the outside: the listener, the gate, and the connections that
// publish live readings and copies of what was committed.
type door struct {
	j    *Journal
	run  *embedded
	gate *gate

	live    *fanout
	copies  *copies
	strange *server.Account // in which outside clients are

	slow int64 // of the server's slow consumers, those that were counted; watch's

	mu     sync.Mutex // held while the listener is opened
	closed bool
}

// free tells whether the address can be listened on, before anything is opened.
func (o *Outside) free(ctx context.Context) error {
	if o == nil {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOutside, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("%w: %w", ErrOutside, err)
	}
	return nil
}

// serve adds to the server's options what outside clients meet. It does not listen yet.
func (o *Outside) serve(opts *server.Options) {
	host, port, _ := net.SplitHostPort(o.Address) // withDefaults saw it
	opts.Host = host
	if host == "" {
		opts.Host = "0.0.0.0"
		if l, err := net.Listen("tcp", "[::]:0"); err == nil {
			opts.Host = "::" // both families
			_ = l.Close()    // nobody connected
		}
	}
	if opts.Port, _ = strconv.Atoi(port); opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	opts.Cluster.NoAdvertise = true
	opts.AuthTimeout, opts.TLSTimeout = 5, 5
	opts.WriteDeadline = writeDeadline
	if o.TLS != nil {
		opts.TLSConfig = o.TLS.Clone()
	}
}

// newDoor connects what the run needs for outside clients.
func (j *Journal) newDoor(run *embedded) (*door, error) {
	d := &door{j: j, run: run}
	var err error
	if d.strange, err = run.srv.LookupAccount(accountOutside); err != nil {
		return nil, err
	}
	if d.gate, err = newGate(j, run); err != nil {
		return nil, err
	}
	if d.live, err = newFanout(run, accountLive, userLive); err != nil {
		d.gate.close()
		return nil, err
	}
	if d.copies, err = newCopies(run, j.m.copiesDropped); err != nil {
		d.gate.close()
		d.live.conn.Close()
		return nil, err
	}
	j.wg.Go(func() { d.copies.publish(j.ctx, run.gone) })
	j.wg.Go(newMeter(d).watch)
	return d, nil
}

// openDoor lets outside clients in. The error says that the address cannot be listened on, or is the server's.
func (j *Journal) openDoor(run *embedded) error {
	if j.o.Outside == nil {
		return nil
	}
	d, err := j.newDoor(run)
	if err != nil {
		return &Error{Op: "open", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	run.door = d
	if err := d.listen(); err != nil {
		return err
	}
	// The same port after a restart inside, also if any was asked for.
	host, _, _ := net.SplitHostPort(j.o.Outside.Address) // withDefaults saw it
	j.o.Outside.Address = net.JoinHostPort(host, strconv.Itoa(run.srv.Addr().(*net.TCPAddr).Port))
	j.outsideAddr = run.srv.Addr()
	return j.m.outside(j.outsideConnections, j.outsideConsumers)
}

// reopenDoor lets them in again after a restart inside. The journal does not wait for it.
func (j *Journal) reopenDoor(run *embedded) {
	if j.o.Outside == nil {
		return
	}
	d, err := j.newDoor(run)
	if err != nil {
		j.log.Error("outside clients cannot be let in until the journal is opened anew", "err", err)
		return
	}
	run.door = d
	if d.listen() == nil {
		return
	}
	j.wg.Add(1)
	go func() {
		defer j.wg.Done()
		for said := false; ; said = true {
			err := d.listen()
			if err == nil {
				j.log.Info("outside clients are let in again", "addr", j.outsideAddr)
				return
			}
			if !said {
				j.log.Error("outside clients cannot be let in; it is tried again", "err", err)
			}
			timer := time.NewTimer(doorRetry)
			select {
			case <-timer.C:
			case <-run.gone:
				timer.Stop()
				return
			case <-j.ctx.Done():
				timer.Stop()
				return
			}
		}
	}()
}

// listen opens the listener. The server says only to its log why it cannot, so the address is tried before.
func (d *door) listen() error {
	if err := d.j.o.Outside.free(d.j.ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil // and nobody waits for it any more
	}
	d.run.srv.AcceptLoop(make(chan struct{}))
	if d.run.srv.Addr() == nil {
		return fmt.Errorf("%w: %s; see the log", ErrOutside, d.j.o.Outside.Address)
	}
	return nil
}

// close ends the connections; the server, which is stopped next, closes the listener.
func (d *door) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.gate.close()
	d.live.conn.Close()
	d.copies.conn.Close()
}

// count adds up the connections that were cut off. Called by watch alone.
func (d *door) count() {
	if n := d.run.srv.NumSlowConsumers(); n > d.slow {
		d.j.m.outsideSlow.Add(float64(n - d.slow))
		d.slow = n
	}
}

// OutsideAddr is the address on which outside clients are let in, nil if they are not. It stays the same until Close.
func (j *Journal) OutsideAddr() net.Addr { return j.outsideAddr }

// outsideConnections and outsideConsumers are for the metrics.
func (j *Journal) outsideConnections() float64 {
	if run := j.runs.current(); run != nil && run.door != nil {
		return float64(max(run.door.strange.NumLocalConnections()-1, 0)) // one is the gate's
	}
	return 0
}

func (j *Journal) outsideConsumers() float64 {
	run := j.runs.current()
	if run == nil || run.door == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(j.ctx, 2*time.Second)
	defer cancel()
	list, err := outsideConsumers(ctx, run.js)
	if err != nil {
		return 0
	}
	return float64(len(list))
}

// strangers is what all runs of the server know of outside clients. What the server logs about them is counted, and said
// once a minute for each reason, so that none of them can fill the log.
type strangers struct {
	log       *slog.Logger
	m         *metrics
	admission *admission

	mu   sync.Mutex
	said map[string]*complaint
}

func newStrangers(o *Outside, log *slog.Logger, m *metrics) *strangers {
	s := &strangers{log: log, m: m, said: make(map[string]*complaint, len(refusals))}
	s.admission = newAdmission(o, s.complain)
	return s
}

type complaint struct {
	at    time.Time
	since int // further ones, not logged
}

// refusals are the reasons for which outside clients are refused something.
var refusals = []string{"password", "guesses", "flood", "connections", "tls", "permission", "payload", "subscriptions", "protocol", "reply", "request", "busy"}

// take tells whether the line is about an outside client. Connections inside the process have no address.
func (s *strangers) take(format string, v []any) bool {
	line := strings.TrimSpace(fmt.Sprintf(format, v...))
	addr, text, ok := strings.Cut(line, " - ")
	if !ok || !strings.Contains(text, "cid:") {
		return false
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
		return false
	}
	reason := "protocol"
	// The server says it in words only.
	for _, known := range [...]struct{ word, reason string }{
		{"authentication error", "password"}, {"Authentication Timeout", "password"}, {"maximum account active connections", "connections"},
		{"TLS handshake", "tls"}, {"Violation - ", "permission"}, {"maximum payload", "payload"}, {"maximum subscriptions", "subscriptions"},
	} {
		if strings.Contains(text, known.word) {
			reason = known.reason
			break
		}
	}
	s.complain(reason, line)
	return true
}

// complain counts what was refused, and says it.
func (s *strangers) complain(reason, text string) {
	s.m.outsideRefused.WithLabelValues(reason).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.said[reason]
	if c == nil {
		c = &complaint{}
		s.said[reason] = c
	}
	if now := time.Now(); now.Sub(c.at) >= time.Minute {
		s.log.Warn("an outside client was refused", "reason", reason, "text", clip(text), "others", c.since)
		c.at, c.since = now, 0
	} else {
		c.since++
	}
}

// clip bounds what a client says of itself in the log.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
