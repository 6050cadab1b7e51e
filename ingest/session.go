package ingest

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nanopack/pulse/internal/guesses"
	"github.com/nanopack/pulse/relaywire"
)

const (
	// maxQueue is how much may wait to be written to one relay. A relay that lets more pile up is stuck.
	maxQueue = 256 << 10
	// pauseQueue is where a session stops reading until some of its answers are written.
	pauseQueue = 32 << 10
	// maxLinger is how much of what a relay still sends is read and thrown away after an error line.
	maxLinger = 256 << 10
	// maxLate is how many lines are still taken from a relay after the time that Stop gives it has passed.
	maxLate = 16
)

// session is one connection. Its own goroutine (run) reads it; everybody else only queues lines and asks it to end.
type session struct {
	srv *Server
	// conn is what is spoken on, raw the connection under its TLS, closing which ends every blocked call at once.
	conn, raw net.Conn
	rd        *relaywire.Reader
	// toldSeries is set once the relay has been told about its series limit; late counts the lines taken after drainUntil. Only run
	// uses them.
	toldSeries bool
	late       int

	mu   sync.Mutex // guards what follows; comes after relay.mu and is held for no call that blocks
	cond *sync.Cond // writing became false, the queue shorter, or ending was set
	// relay is set when the connection has said its id.
	relay *relay
	// out waits to be written. writing says that a goroutine does so: there is none while out is empty, because ten thousand idle stacks are 40 MB.
	out     []byte
	writing bool
	// ending is the reason for the end, "" before. Nothing is queued once it is set. farewell says that an error line is the
	// last thing in the queue, and dead that writing is pointless.
	ending         string
	farewell, dead bool
	// draining is set by Stop: only answers that are under way are waited for, until drainUntil.
	draining   bool
	drainUntil time.Time
}

func newSession(srv *Server, raw net.Conn) *session {
	s := &session{srv: srv, raw: raw, conn: raw}
	if srv.opt.TLS != nil {
		s.conn = tls.Server(raw, srv.opt.TLS)
	}
	s.cond = sync.NewCond(&s.mu)
	s.rd = relaywire.NewReader(s.conn)
	return s
}

// run serves the connection until it ends. It is the session's goroutine.
func (s *session) run() {
	defer s.srv.sessions.Done()
	if s.identify() {
		for s.arm() {
			msg, err := s.rd.Read()
			if err != nil {
				s.readFailed(err)
				break
			}
			if !s.handle(msg) {
				break
			}
		}
		s.srv.leave(s)
	}
	s.finish()
	s.srv.untrack(s)
}

// identify reads the first line. It returns false when the connection does not become a relay; it has been told why then.
func (s *session) identify() bool {
	// The deadline covers the handshake and is for both directions: a handshake writes too.
	s.conn.SetDeadline(time.Now().Add(identifyTimeout))
	if t, ok := s.conn.(*tls.Conn); ok {
		if err := t.HandshakeContext(s.srv.ctx); err != nil {
			return s.refuse(refusedTLS, "")
		}
		s.conn.SetWriteDeadline(time.Time{})
	}
	return s.readID(false)
}

// readID reads an id line. asked says that it is the second one, after the first was without the token.
func (s *session) readID(asked bool) bool {
	msg, err := s.rd.Read()
	switch {
	case asked && err != nil:
		// Only who has no token ends here: one that has it sends it at once.
		return s.refuse(refusedNoToken, "")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.refuse(refusedTimeout, "no id within "+identifyTimeout.String()+": send id {id} first")
	case errors.Is(err, relaywire.ErrLineTooLong):
		return s.refuse(refusedLine, err.Error())
	case err != nil:
		return s.refuse(refusedDisconnection, "")
	case msg.Verb != relaywire.VerbID:
		return s.refuse(refusedNotID, "identify first with the 'id' command")
	}
	wanted := s.srv.token.Load() != nil
	id, token, err := relaywire.ParseID(msg.Args, wanted)
	switch {
	case errors.Is(err, relaywire.ErrMissingID):
		return s.refuse(refusedMissingID, "missing id")
	case err != nil:
		return s.refuse(refusedBadID, err.Error())
	case !wanted && token != nil:
		s.srv.quiet.warn("token", "a relay gives a token that this server, which has no --relay-token, did not ask for; it is thrown away", "relay", string(id))
	case wanted && token == nil:
		// A missing token is no guess: a relay that has one gives it only to a server that says this.
		if asked {
			return s.refuse(refusedNoToken, relaywire.ErrMissingToken.Error())
		}
		return s.complain(relaywire.ErrMissingToken.Error()) && s.readID(true)
	}
	switch ok, wait := s.srv.authorized(s.raw.RemoteAddr(), token); {
	case ok:
	case wait > 0:
		return s.refuse(refusedGuesses, s.srv.guessers.Refusal("token", guesses.Origin(s.raw.RemoteAddr().String()), s.srv.opt.Now(), wait))
	default:
		return s.refuse(refusedToken, relaywire.ErrWrongToken.Error())
	}
	return s.srv.enter(s, string(id))
}

// refuse ends a connection that has not become a relay, and returns false. An empty line means that there is nobody to read it.
func (s *session) refuse(label, line string) bool {
	s.srv.m.refused.WithLabelValues(label).Inc()
	if label != refusedDisconnection {
		s.srv.quiet.warn("refused "+label, "relay connection refused", "reason", label, "remote", s.raw.RemoteAddr().String())
	}
	s.end(label, line)
	return false
}

// arm gives the next read its deadline. It returns false when the session is to end.
func (s *session) arm() bool {
	s.mu.Lock()
	r, draining, until := s.relay, s.draining, s.drainUntil
	s.mu.Unlock()
	deadline := time.Now().Add(2 * s.srv.opt.BeatInterval)
	if draining {
		now := time.Now()
		if now.After(until) {
			s.late++
		}
		// What has arrived is read even when the time is over: a slow journal may have kept this goroutine from it.
		deadline = now.Add(20 * time.Millisecond)
		if r.awaiting() && deadline.Before(until) {
			deadline = until
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != "" || s.late > maxLate {
		return false
	}
	if s.draining == draining { // else drain has just set a deadline, which is the one that counts
		s.conn.SetReadDeadline(deadline)
	}
	return true
}

// handle does what one line asks for. It returns false when the session is to end.
func (s *session) handle(msg relaywire.Message) bool {
	switch msg.Verb {
	case relaywire.VerbGot:
		s.got(msg.Args)
	case relaywire.VerbPing:
		return s.reply("pong\n")
	case relaywire.VerbAdd:
		return s.add(msg.Args)
	case relaywire.VerbRemove:
		if name, err := relaywire.ParseRemove(msg.Args); err == nil {
			s.srv.remove(s, name)
		}
		return s.reply("ok\n")
	case relaywire.VerbOK:
	case relaywire.VerbClose:
		s.end(endClosed, "")
		return false
	default:
		s.srv.m.ignored.Inc()
		s.srv.quiet.warn("ignored", "relay says what is no command; it is passed over", "relay", s.relay.id)
	}
	return true
}

func (s *session) add(args []byte) bool {
	name, tags, err := relaywire.ParseAdd(args)
	if err != nil {
		s.srv.m.denied.WithLabelValues(deniedName).Inc()
		s.srv.quiet.warn("bad add", "a relay's add was refused", "relay", s.relay.id, "error", err)
		return s.complain("add: " + err.Error())
	}
	if s.srv.add(s, name, tags) {
		return s.reply("ok\n")
	}
	s.srv.m.denied.WithLabelValues(deniedCollectors).Inc()
	s.srv.quiet.warn("collectors", "relay has too many collectors; one was refused", "relay", s.relay.id, "limit", s.srv.opt.Limits.Collectors)
	return s.complain("too many collectors: a relay may have " + strconv.Itoa(s.srv.opt.Limits.Collectors))
}

// complain answers a line that is refused while the session goes on: one bad add does not take a relay's other readings away.
func (s *session) complain(reason string) bool {
	return s.reply(string(relaywire.AppendError(nil, reason)))
}

// reply queues an answer of the session's own goroutine. When the relay asks faster than it reads, it waits: that slows
// the relay down instead of filling memory. It returns false when the session is to end.
func (s *session) reply(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ending == "" && len(s.out) >= pauseQueue {
		s.cond.Wait()
	}
	if s.ending != "" {
		return false
	}
	s.out = append(s.out, line...)
	s.startWriter()
	return true
}

// send queues lines from outside the session's goroutine, and never waits. It returns false when the session is ending, which it
// is after this when too much is queued.
func (s *session) send(lines []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending != "" {
		return false
	}
	if len(s.out) > 0 && len(s.out)+len(lines) > maxQueue {
		s.endLocked(endStuck, "")
		return false
	}
	s.out = append(s.out, lines...)
	s.startWriter()
	return true
}

// startWriter needs mu.
func (s *session) startWriter() {
	if !s.writing && !s.dead && len(s.out) > 0 {
		s.writing = true
		go s.write()
	}
}

// write empties the queue and ends. finish waits for it, so that no writer outlives its session.
func (s *session) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.out) > 0 && !s.dead {
		buf := s.out
		s.out = nil
		timeout := writeTimeout
		if s.ending != "" {
			timeout = farewellTimeout
		}
		s.conn.SetWriteDeadline(time.Now().Add(timeout))
		s.mu.Unlock()
		_, err := s.conn.Write(buf)
		s.mu.Lock()
		if err != nil {
			s.dead = true
			if s.ending == "" {
				s.ending = endLost
				if errors.Is(err, os.ErrDeadlineExceeded) {
					s.ending = endStuck
				}
			}
		} else if s.out == nil && cap(buf) <= 4<<10 {
			s.out = buf[:0]
		}
		s.cond.Broadcast()
	}
	s.out = nil
	s.writing = false
	if s.ending != "" {
		s.wakeReader()
	} else if s.conn != s.raw {
		s.conn.SetWriteDeadline(time.Time{}) // TLS writes while it reads, when keys are renewed
	}
	s.cond.Broadcast()
}

// end makes the session end for reason once everything queued, and the error line if there is one, has been written. The first
// reason wins. It does not wait and may be called from any goroutine.
func (s *session) end(reason, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line != "" && s.ending == "" {
		s.farewell = true
		s.out = relaywire.AppendError(s.out, line)
	}
	s.endLocked(reason, line)
}

func (s *session) endLocked(reason, line string) {
	if s.ending != "" {
		return
	}
	s.ending = reason
	if line == "" && reason == endStuck {
		s.dead = true
		s.raw.Close() // the writer is blocked; nothing more will get through
	}
	// The writer may be in the middle of a write with a longer deadline.
	s.conn.SetWriteDeadline(time.Now().Add(farewellTimeout))
	s.startWriter()
	if !s.writing {
		s.wakeReader()
	}
	s.cond.Broadcast()
}

// wakeReader ends a blocked read. It needs mu and ending to be set, so that arm cannot move the deadline again.
func (s *session) wakeReader() { s.conn.SetReadDeadline(time.Unix(1, 0)) }

// kill ends the session at once, whatever is queued.
func (s *session) kill(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == "" {
		s.ending = reason
	}
	s.dead = true
	s.raw.Close()
	s.cond.Broadcast()
}

// drain asks for the end as soon as no poll is unanswered, and at until at the latest. A connection that is no relay ends at once.
func (s *session) drain(until time.Time) {
	s.mu.Lock()
	r := s.relay
	s.mu.Unlock()
	if r == nil {
		s.kill(endStopped)
		return
	}
	deadline := time.Now().Add(20 * time.Millisecond)
	if r.awaiting() || deadline.After(until) {
		deadline = until
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining, s.drainUntil = true, until
	if s.ending == "" {
		s.conn.SetReadDeadline(deadline)
	}
}

// readFailed turns the error that ended reading into the reason for the end.
func (s *session) readFailed(err error) {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && draining:
		s.end(endStopped, "")
	case errors.Is(err, os.ErrDeadlineExceeded):
		silence := 2 * s.srv.opt.BeatInterval
		s.end(endSilent, "nothing heard for "+silence.String()+": send ping every "+s.srv.opt.BeatInterval.String())
	case errors.Is(err, relaywire.ErrLineTooLong):
		s.end(endLine, err.Error())
	default:
		s.end(endLost, "")
	}
}

// finish waits for the writer and closes the connection. After an error line it first lets the other side read it.
func (s *session) finish() {
	s.end(endStopped, "") // the reason is set already, except when arm saw Stop's time run out
	s.mu.Lock()
	for s.writing {
		s.cond.Wait()
	}
	linger := s.farewell && !s.dead
	orderly := !s.dead && s.ending != endLost
	s.mu.Unlock()
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok && orderly {
		c.CloseWrite()
	}
	if linger {
		s.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
		io.CopyN(io.Discard, s.conn, maxLinger)
	}
	s.raw.Close()
}
