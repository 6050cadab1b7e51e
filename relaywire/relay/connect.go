package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// run keeps the relay connected until Close.
func (r *Relay) run() {
	defer close(r.done)
	var pauses backoff
	var saidFound, saidLost onceAMinute
	for first := true; ; first = false {
		conn, lines, err := r.connect()
		began := time.Time{}
		if err == nil {
			began = time.Now()
			s := newSession(r, conn, lines)
			r.welcome(s)
			if saidFound.may(began) {
				r.o.Logger.Info("relay: connected", "server", r.o.Address, "id", r.o.ID)
			}
			if first {
				close(r.first)
			}
			err = r.explain(s.serve())
		}
		lasted := time.Duration(0)
		if !began.IsZero() {
			lasted = time.Since(began)
		}
		closed := r.lose(err)
		if first && began.IsZero() {
			close(r.first)
		}
		if closed {
			return
		}
		if lasted >= settled {
			saidFound, saidLost = onceAMinute{}, onceAMinute{}
		}
		now := time.Now()
		pause := pauses.next(now, lasted, errors.Is(err, ErrRefused))
		if saidLost.may(now) {
			r.o.Logger.Warn("relay: not connected; retrying until the server is back", "server", r.o.Address, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-r.ctx.Done():
		}
	}
}

// connect dials and sends the id. On success the server has answered ok.
func (r *Relay) connect() (net.Conn, *relaywire.Reader, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.DialTimeout)
	defer cancel()
	token, conf := r.credentials()
	d, err := r.knock(ctx, conf, relaywire.AppendID(nil, r.o.ID, ""))
	switch {
	case token == "":
	case err == nil && !r.saidUnasked:
		r.saidUnasked = true
		r.o.Logger.Info("relay: the server wants no token, so it was not told ours", "server", r.o.Address)
	case refusedFor(err, relaywire.ErrMissingToken):
		err = d.say(relaywire.AppendID(nil, r.o.ID, token))
	case refusedFor(err, relaywire.ErrWrongToken):
		// An older release has closed the connection, and takes the token only as a bare last word.
		d.close()
		d, err = r.knock(ctx, conf, fmt.Appendf(nil, "id %s %s\n", r.o.ID, token))
	}
	if err == nil && d.keep() {
		return d.conn, d.lines, nil
	}
	var typed *Error
	switch {
	case d == nil: // dialling failed
	case r.ctx.Err() != nil:
		err = ErrClosed
	case ctx.Err() != nil:
		err = &Error{Op: "connect", Subject: r.o.Address, Err: ErrSilent, Detail: "it did not answer the id"}
	}
	d.close()
	if !errors.As(err, &typed) {
		err = &Error{Op: "connect", Subject: r.o.Address, Err: err}
	}
	return nil, nil, err
}

// doorstep is a connection that the server has not accepted yet.
type doorstep struct {
	r     *Relay
	conn  net.Conn
	lines *relaywire.Reader
	// keep cancels the function that closes conn on Close or after the time limit. It returns false
	// when that function has already started.
	keep func() bool
}

// knock dials and sends the first line. The doorstep is nil when dialling failed.
func (r *Relay) knock(ctx context.Context, conf *tls.Config, line []byte) (*doorstep, error) {
	conn, err := r.o.Dial(ctx, r.o.Address)
	if err != nil {
		return nil, err
	}
	if conf != nil {
		conn = tls.Client(conn, conf)
	}
	d := &doorstep{r: r, conn: conn, lines: relaywire.NewReader(conn)}
	d.keep = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return d, d.say(line)
}

// say sends an id line and returns nil when the answer is ok. Any other answer is ErrRefused with
// the server's words.
func (d *doorstep) say(line []byte) error {
	if _, err := d.conn.Write(line); err != nil {
		return err
	}
	m, err := d.lines.Read()
	if err != nil || m.Verb == relaywire.VerbOK {
		return err
	}
	said := quote(m.Args) // an error's reason, or the whole line, which is how Pulse 0.2 complains
	if m.Verb != relaywire.VerbError && m.Verb != relaywire.VerbUnknown {
		said = m.Verb.String() + " " + said
	}
	return &Error{Op: "connect", Subject: d.r.o.Address, Err: ErrRefused, Detail: said}
}

// close closes the connection; a nil doorstep is allowed.
func (d *doorstep) close() {
	if d != nil {
		d.keep()
		_ = d.conn.Close()
	}
}

// refusedFor reports whether the server refused for that reason. Servers send only the reason's
// text. The part before the colon has been the same since the first release that sent the reason.
func refusedFor(err, reason error) bool {
	var e *Error
	what, _, _ := strings.Cut(reason.Error(), ":")
	return errors.As(err, &e) && e.Err == ErrRefused && strings.HasPrefix(e.Detail, what)
}

// explain adds the server's address to the error that ended the connection.
func (r *Relay) explain(err error) error {
	var typed *Error
	if errors.As(err, &typed) {
		return err
	}
	e := &Error{Op: "talk to", Subject: r.o.Address, Err: err}
	if errors.Is(err, io.EOF) {
		e.Detail = "the server hung up"
	}
	return e
}

// welcome makes s the current session and sends an add for every collector. Both happen under one
// lock, and sending does not block, so an add or remove of another goroutine is neither lost nor
// reordered.
func (r *Relay) welcome(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session = s
	r.state.Connected, r.state.Since = true, time.Now()
	r.state.Connects++
	for _, name := range sortedKeys(r.collectors) {
		tags := r.collectors[name].tags
		s.send(func(dst []byte) []byte { return relaywire.AppendAdd(dst, name, tags) })
	}
	if r.closed {
		s.send(relaywire.AppendClose)
		s.finish()
	}
	r.announce()
}

// lose records why there is no connection and reports whether the relay was closed.
func (r *Relay) lose(err error) (closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil {
		r.session = nil
		r.state.Connected, r.state.Since = false, time.Now()
		r.announce()
	}
	if !r.closed {
		r.state.LastError = err
	}
	return r.closed
}

// announce wakes Wait. The caller holds mu.
func (r *Relay) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}
