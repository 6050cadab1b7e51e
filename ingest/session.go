package ingest

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// identifyTimeout is how long a new connection has for its TLS handshake and its id line.
const identifyTimeout = 10 * time.Second

// session is one connection of a relay, or of what may become one. Its own goroutine, which is
// another one from time to time, reads it. Everybody else only sends lines and asks it to end.
type session struct {
	*conn
	env      *env
	tokens   *tokenCheck
	registry *registry
	rd       *relaywire.Reader
	// relay is nil until the connection has identified itself.
	relay atomic.Pointer[relay]
	// toldSeries is whether the relay has been told about its series limit. Only the session's own
	// goroutine uses it.
	toldSeries bool
	// spool is what the connection has said of the relay's spool, nil before. Only the session's own
	// goroutine uses it.
	spool *spoolSession
}

func newSession(e *env, tokens *tokenCheck, registry *registry, raw net.Conn) *session {
	s := &session{conn: newConn(raw, e.TLS), env: e, tokens: tokens, registry: registry}
	s.rd = relaywire.NewReader(s.stream)
	return s
}

// identify reads the id line and makes the connection the relay's. It returns false when it does
// not become a relay; it has been told why then. full is whether there is no room for it.
func (s *session) identify(full bool) bool {
	switch limit := strconv.Itoa(s.env.Limits.Unidentified); {
	case full && s.env.TLS != nil:
		return s.refuse(refusedUnidentified, "") // a handshake is what there is no room for
	case full:
		return s.refuse(refusedUnidentified, "too many connections: "+limit+" have not said their id yet")
	}
	deadline := time.Now().Add(identifyTimeout) // covers the handshake
	s.stream.SetReadDeadline(deadline)
	if t, ok := s.stream.(*tls.Conn); ok {
		s.stream.SetWriteDeadline(deadline)
		if err := t.HandshakeContext(s.env.appends); err != nil {
			return s.refuse(refusedTLS, "")
		}
		s.stream.SetWriteDeadline(time.Time{})
	}
	id, ok := s.readID(false)
	if !ok {
		return false
	}
	r := s.registry.enter(s.conn, id)
	if r == nil {
		return s.refuse(refusedRelays, "too many relays: the limit is "+strconv.Itoa(s.env.Limits.Relays))
	}
	s.relay.Store(r)
	s.conn.send(nil) // writes the greeting
	s.env.log.Debug("relay connected", "relay", id, "remote", s.remote())
	return true
}

// readID reads an id line. again is whether it is the second one, after the first was without the
// token.
func (s *session) readID(again bool) (id string, ok bool) {
	msg, err := s.rd.Read()
	switch {
	case again && err != nil:
		// Only a relay without a token ends here: one that has it sends it at once.
		return "", s.refuse(refusedNoToken, "")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", s.refuse(refusedTimeout, "no id within "+identifyTimeout.String()+": send id {id} first")
	case errors.Is(err, relaywire.ErrLineTooLong):
		return "", s.refuse(refusedLine, err.Error())
	case err != nil:
		return "", s.refuse(refusedDisconnection, "")
	case msg.Verb != relaywire.VerbID:
		return "", s.refuse(refusedNotID, "identify first with the 'id' command")
	}
	wanted := s.tokens.wanted()
	name, token, err := relaywire.ParseID(msg.Args, wanted)
	switch {
	case errors.Is(err, relaywire.ErrMissingID):
		return "", s.refuse(refusedMissingID, "missing id")
	case err != nil:
		return "", s.refuse(refusedBadID, err.Error())
	case !wanted && token != nil:
		s.env.log.WarnRarely("token", "a relay gives a token that this server, which has no --relay-token, "+
			"did not ask for; it is thrown away", "relay", string(name))
	case wanted && token == nil && again:
		return "", s.refuse(refusedNoToken, relaywire.ErrMissingToken.Error())
	case wanted && token == nil:
		// A missing token is no guess: a relay that has one gives it only to a server that says
		// this.
		if !s.complain(relaywire.ErrMissingToken.Error()) {
			return "", false
		}
		return s.readID(true)
	}
	if label, line := s.tokens.judge(s.raw.RemoteAddr(), token); label != "" {
		return "", s.refuse(label, line)
	}
	return string(name), true
}

// refuse ends a connection that has not become a relay, and returns false. An empty line means that
// there is nobody to read it.
func (s *session) refuse(label, line string) bool {
	s.env.m.refused.WithLabelValues(label).Inc()
	if label != refusedDisconnection {
		s.env.log.WarnRarely("refused "+label, "relay connection refused", "reason", label, "remote", s.remote())
	}
	s.end(label, line)
	return false
}

// serve does what the relay's lines ask for, until the session ends or waits for long. It reports
// whether the session goes on: then serve has to be called again, best on a new stack.
func (s *session) serve() bool {
	r := s.relay.Load()
	for s.proceed(r) {
		msg, err := s.read()
		if err != nil {
			s.readFailed(err)
			break
		}
		if !s.handle(r, msg) {
			break
		}
		if s.rd.Buffered() == 0 && (msg.Verb != relaywire.VerbGot && msg.Verb != relaywire.VerbTook || r.rests()) {
			return true
		}
	}
	s.env.recalls.leave(r, s.conn)
	s.end(endStopped, "") // there is a reason already, unless Stop's time has run out
	s.registry.leave(s.conn, r)
	switch reason := s.reason(); reason {
	case endSilent, endStuck, endLine:
		s.env.log.WarnRarely("ended "+reason, "relay was disconnected", "reason", reason, "relay", r.id)
	default:
		s.env.log.Debug("relay disconnected", "relay", r.id, "reason", reason)
	}
	return false
}

// proceed reports whether another line is to be read.
func (s *session) proceed(r *relay) bool {
	drainUntil, ok := s.arm(2 * s.env.BeatInterval)
	if ok && !drainUntil.IsZero() {
		ok = s.conn.drain(drainUntil, r.awaiting())
	}
	return ok
}

// read returns the next line, or why there is none. It waits for two beats.
func (s *session) read() (relaywire.Message, error) {
	for {
		msg, err := s.rd.Read()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !s.rearm(2*s.env.BeatInterval) {
			return msg, err
		}
	}
}

// drain ends the session as soon as no poll is unanswered, and at until at the latest. A connection
// without an id ends at once.
func (s *session) drain(until time.Time) {
	if r := s.relay.Load(); r != nil {
		r.drain(until)
	} else {
		s.kill(endStopped)
	}
}

// readFailed turns the error that ended reading into the reason for the end.
func (s *session) readFailed(err error) {
	switch timeout := errors.Is(err, os.ErrDeadlineExceeded); {
	case timeout && s.draining():
		s.end(endStopped, "")
	case timeout:
		silence, beat := 2*s.env.BeatInterval, s.env.BeatInterval
		s.end(endSilent, "nothing heard for "+silence.String()+": send ping every "+beat.String())
	case errors.Is(err, relaywire.ErrLineTooLong):
		s.end(endLine, err.Error())
	default:
		s.end(endLost, "")
	}
}

// handle does what one line asks for. It returns false when the session is to end.
func (s *session) handle(r *relay, msg relaywire.Message) bool {
	switch msg.Verb {
	case relaywire.VerbGot:
		if r.got(s.conn, msg.Args) {
			s.tooManySeries(r)
		}
	case relaywire.VerbTook, relaywire.VerbPast:
		return s.record(r, msg)
	case relaywire.VerbPing:
		return s.reply(r.kept() + "pong\n")
	case relaywire.VerbAdd:
		return s.add(r, msg.Args)
	case relaywire.VerbRemove:
		if name, err := relaywire.ParseRemove(msg.Args); err == nil {
			r.remove(s.conn, name)
		}
		return s.reply("ok\n")
	case relaywire.VerbSpool:
		return s.tellSpool(r, msg.Args)
	case relaywire.VerbOK:
	case relaywire.VerbClose:
		s.end(endClosed, "")
		return false
	default:
		s.env.m.ignored.Inc()
		s.env.log.WarnRarely("ignored", "relay says what is no command; it is passed over", "relay", r.id)
	}
	return true
}

func (s *session) add(r *relay, args []byte) bool {
	name, tags, err := relaywire.ParseAdd(args)
	if err != nil {
		s.env.m.denied.WithLabelValues(deniedName).Inc()
		s.env.log.WarnRarely("bad add", "a relay's add was refused", "relay", r.id, "error", err)
		return s.complain("add: " + err.Error())
	}
	if r.add(s.conn, name, tags) {
		return s.reply("ok\n")
	}
	limit := strconv.Itoa(s.env.Limits.Collectors)
	s.env.m.denied.WithLabelValues(deniedCollectors).Inc()
	s.env.log.WarnRarely("collectors", "relay has too many collectors; one was refused", "relay", r.id, "limit", limit)
	return s.complain("too many collectors: a relay may have " + limit)
}

// tooManySeries tells the relay about its series limit, once a connection.
func (s *session) tooManySeries(r *relay) {
	if s.toldSeries {
		return
	}
	s.toldSeries = true
	limit := strconv.Itoa(s.env.Limits.Series)
	s.env.m.denied.WithLabelValues(deniedSeries).Inc()
	s.env.log.WarnRarely("series", "relay has too many series; new ones are refused", "relay", r.id, "limit", limit)
	s.complain("too many series: a relay may have " + limit + ", readings of others are refused")
}

// complain answers a line that is refused while the session goes on: one bad add does not take a
// relay's other readings away.
func (s *session) complain(reason string) bool {
	return s.reply(string(relaywire.AppendError(nil, reason)))
}
