package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
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

// connect dials and identifies. On success the server has said ok.
func (r *Relay) connect() (net.Conn, *relaywire.Reader, error) {
	fail := func(err error, detail string) (net.Conn, *relaywire.Reader, error) {
		return nil, nil, &Error{Op: "connect", Subject: r.o.Address, Err: err, Detail: detail}
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.o.DialTimeout)
	defer cancel()
	conn, err := r.o.Dial(ctx, r.o.Address)
	if err != nil {
		return fail(err, "")
	}
	token, conf := r.credentials()
	if conf != nil {
		conn = tls.Client(conn, conf)
	}
	// Until the session owns the connection, this is what ends a blocked read or write: Close, or the time limit.
	unblock := context.AfterFunc(ctx, func() { _ = conn.Close() })
	lines := relaywire.NewReader(conn)
	_, err = conn.Write(relaywire.AppendID(nil, r.o.ID, token))
	var m relaywire.Message
	if err == nil {
		m, err = lines.Read()
	}
	ours := unblock()
	switch {
	case !ours && r.ctx.Err() != nil:
		return fail(ErrClosed, "")
	case !ours:
		return fail(ErrSilent, "it did not answer the id")
	case err != nil:
		_ = conn.Close()
		return fail(err, "")
	case m.Verb != relaywire.VerbOK:
		_ = conn.Close()
		said := string(m.Args) // an error's reason, or the whole line, which is how Pulse 0.2 complains
		if m.Verb != relaywire.VerbError && m.Verb != relaywire.VerbUnknown {
			said = m.Verb.String() + " " + said
		}
		return fail(ErrRefused, said)
	}
	return conn, lines, nil
}

// explain says whose connection it was that ended.
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

// welcome makes s the current session and registers everything with it. Both happen under one lock, and sending does
// not block, so that an add or remove that comes meanwhile is neither lost nor overtaken.
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

// lose notes why there is no connection (any more) and says whether the relay was closed.
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

// announce wakes Wait; mu is held.
func (r *Relay) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}
