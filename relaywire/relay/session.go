package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

const (
	// firstBeat is the heartbeat until the server names one.
	firstBeat = 30 * time.Second
	// writeTimeout is how long the server may leave our lines unread before the connection counts
	// as lost.
	writeTimeout = 10 * time.Second
	// maxUnsent bounds the bytes that may wait to be written when one more answer is added: about a
	// hundred answers of a thousand readings.
	maxUnsent = 4 << 20
	// maxQueuedPolls is how many get lines may wait while one is being answered.
	maxQueuedPolls = 64
	// farewell is how long Close waits for the server to take the last lines and to close the
	// connection.
	farewell = 2 * time.Second
)

// session is one accepted connection. It has three goroutines, read (the caller of serve), write
// and answer, so that neither a slow collector nor a slow server holds up the heartbeat.
type session struct {
	r     *Relay
	conn  net.Conn
	lines *relaywire.Reader

	gets chan []string
	wake chan struct{} // buffered by one: out or finishing has changed
	// ctx ends when the session does.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu        sync.Mutex // guards the fields below; taken inside Relay.mu, never the other way round
	out       []byte     // whole lines that wait to be written
	finishing bool       // write the remaining lines, then close the connection
	hungUp    bool       // the last line has been written
}

func newSession(r *Relay, conn net.Conn, lines *relaywire.Reader) *session {
	s := &session{r: r, conn: conn, lines: lines, gets: make(chan []string, maxQueuedPolls), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(r.ctx)
	return s
}

// serve returns why the session ended. Before it returns, it has closed the connection and waited
// for the session's goroutines.
func (s *session) serve() error {
	var wg sync.WaitGroup
	// The end of the session, for any reason, unblocks the reader and the writer.
	unblock := context.AfterFunc(s.ctx, func() { _ = s.conn.Close() })
	defer unblock()
	wg.Go(s.write)
	wg.Go(s.answer)
	s.cancel(s.read())
	_ = s.conn.Close()
	wg.Wait()
	if s.r.spool != nil {
		s.r.spool.leave(s)
	}
	return context.Cause(s.ctx)
}

// send appends lines to the lines that wait to be written; it never blocks.
func (s *session) send(lines func(dst []byte) []byte) {
	s.mu.Lock()
	tooMuch := len(s.out) > maxUnsent // checked before appending, so that one answer is never too long
	if !tooMuch {
		s.out = lines(s.out)
	}
	s.mu.Unlock()
	if tooMuch {
		s.cancel(ErrSlow)
	}
	s.poke()
}

// finish makes the session write the remaining lines and close the connection.
func (s *session) finish() {
	s.mu.Lock()
	s.finishing = true
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) write() {
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		lines, finishing := s.out, s.finishing
		s.out = spare[:0]
		s.mu.Unlock()
		limit := writeTimeout
		if finishing {
			limit = farewell / 2
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(limit))
		if len(lines) > 0 {
			if _, err := s.conn.Write(lines); err != nil {
				s.cancel(err)
				return
			}
		}
		if finishing {
			s.hangUp()
			return
		}
		if spare = lines; cap(spare) > relaywire.MaxLine {
			spare = nil // do not keep the memory of one long list of names for ever
		}
	}
}

// hangUp closes our side of the connection and leaves the server's side open for a moment. Closing
// both sides while a get of the server is unread would make the kernel reset the connection, and
// the server might never see our last lines.
func (s *session) hangUp() {
	s.mu.Lock()
	s.hungUp = true
	_ = s.conn.SetReadDeadline(time.Now().Add(farewell / 2))
	s.mu.Unlock()
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		_ = s.conn.Close()
	}
}

// setReadDeadline moves the heartbeat's deadline unless the session has hung up.
func (s *session) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hungUp {
		_ = s.conn.SetReadDeadline(t)
	}
}

// read handles the server's lines and keeps the heartbeat: it sends a ping every beat and expects a
// line from the server within half a beat of the ping. The read deadline is the heartbeat's clock,
// so an idle session needs no timer of its own.
func (s *session) read() error {
	beat, pinged, waiting := firstBeat, time.Now(), false
	complaint := "" // of the server's last line
	s.setReadDeadline(pinged.Add(beat))
	for {
		m, err := s.lines.Read()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && s.mayEnd():
			return ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded) && !waiting:
			pinged, waiting = time.Now(), true
			s.setReadDeadline(pinged.Add(beat / 2))
			s.send(relaywire.AppendPing)
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return &Error{Op: "ping", Subject: s.r.o.Address, Err: ErrSilent}
		case err != nil && complaint != "":
			return &Error{Op: "talk to", Subject: s.r.o.Address, Err: ErrRefused, Detail: complaint}
		case err != nil:
			return err
		}
		complaint = ""
		if waiting {
			waiting = false
			s.setReadDeadline(pinged.Add(beat))
		}
		switch m.Verb {
		case relaywire.VerbGet:
			s.get(m.Args)
		case relaywire.VerbFlush:
			for _, w := range s.r.all() {
				w.flush()
			}
			s.send(relaywire.AppendOK)
		case relaywire.VerbOverride:
			s.override(m.Args)
		case relaywire.VerbBeat:
			if d, err := relaywire.ParseBeat(m.Args); err == nil {
				beat = max(d, MinInterval)
				s.r.setBeat(beat)
				s.setReadDeadline(pinged.Add(beat))
			}
		case relaywire.VerbTakes, relaywire.VerbKept, relaywire.VerbRecall:
			if s.r.spool != nil {
				s.r.spool.hear(s, m)
			}
		case relaywire.VerbError:
			// The server closes the connection next, or it refused one thing (a collector too many)
			// and goes on. So the relay does not end the connection.
			complaint = quote(m.Args)
			s.r.complained(complaint)
		}
		// ok and pong ask for nothing. Unknown lines are ignored, as released relays do.
	}
}

// mayEnd reports whether hangUp set the deadline that has passed.
func (s *session) mayEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hungUp
}

// get queues a poll. When the server polls faster than the relay answers, get drops and counts the
// poll.
func (s *session) get(args []byte) {
	var names []string
	seen := map[string]bool{}
	for name := range relaywire.Names(args) {
		if !seen[string(name)] {
			seen[string(name)] = true
			names = append(names, string(name))
		}
	}
	select {
	case s.gets <- names:
	default:
		s.r.countPoll(0, true)
	}
}

// override passes an override on to the collectors it names. A line that does not parse is logged
// and ignored, because the server could do nothing with a complaint.
func (s *session) override(args []byte) {
	d, items, err := relaywire.ParseOverride(args)
	if err != nil {
		s.r.o.Logger.Warn("relay: the server sent an override that cannot be read", "error", err)
		return
	}
	for name, interval := range items {
		if w := s.r.find(string(name)); w != nil {
			w.override(interval, d)
		}
	}
	s.send(relaywire.AppendOK)
}

// answer answers one poll after the other.
func (s *session) answer() {
	for {
		select {
		case names := <-s.gets:
			if s.r.spool != nil {
				s.r.spool.answer(s, names)
				continue
			}
			items := s.r.collect(s.ctx, names)
			if s.ctx.Err() != nil {
				return
			}
			s.got(items)
		case <-s.ctx.Done():
			return
		}
	}
}

// got answers a poll.
func (s *session) got(items []relaywire.GotItem) {
	s.r.countPoll(len(items), false)
	s.send(func(dst []byte) []byte {
		n := len(dst)
		if dst = relaywire.AppendGot(dst, items); len(dst) == n {
			// An empty got is an answer too, so that the server need not wait for a timeout. Pulse
			// 0.2 ignores it.
			dst = append(dst, "got\n"...)
		}
		return dst
	})
}

// collect asks all the named collectors at once and returns, in the order of the names, the
// readings that came in time. It returns early when ctx ends.
func (r *Relay) collect(ended context.Context, names []string) (items []relaywire.GotItem) {
	ctx, cancel := context.WithTimeout(ended, r.o.CollectTimeout)
	defer cancel()
	workers := make([]*worker, len(names))
	answers := make([][]relaywire.GotItem, len(names))
	replies := make(chan reply, len(names))
	pending := 0
	for i, name := range names {
		if w := r.find(name); w != nil && w.request(request{ctx: ctx, index: i, reply: replies}) {
			workers[i] = w
			pending++
		}
	}
wait:
	for ; pending > 0; pending-- {
		select {
		case a := <-replies:
			answers[a.index], workers[a.index] = a.items, nil
		case <-ctx.Done():
			break wait
		}
	}
	for i, w := range workers {
		if w != nil && !w.stopped() && ended.Err() == nil { // else it is not the collector's fault
			w.late()
		}
		items = append(items, answers[i]...)
	}
	return items
}
