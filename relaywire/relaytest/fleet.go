package relaytest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nanopack/pulse/relaywire"
)

// FleetOptions describe a Fleet. Addr is required; the other fields have defaults.
type FleetOptions struct {
	// Addr is the server's relay address.
	Addr string
	// N is how many relays there are. Default 1.
	N int
	// Stats is how many stats each relay has, named stat_0, stat_1... Default 10.
	Stats int
	// Collectors is how many collectors share these stats: stat i belongs to collector
	// i % Collectors. Default 1.
	Collectors int
	// Collector returns the name of a collector. Default FleetCollector.
	Collector func(collector int) string
	// Value returns the value of a stat in the answer to the relay's n-th poll; n counts the
	// answered get lines of that relay from 1 and continues after a reconnect. Value is called from
	// many goroutines. Default FleetValue.
	Value func(relay, stat int, n uint64) float64
	// ID returns a relay's id. Default FleetID.
	ID func(relay int) string
	// Tags returns the tags of a relay's collector. Default none.
	Tags func(relay, collector int) []string
	// Token is sent after the id if it is not empty.
	Token string
	// TLS, if not nil, makes the relays connect over TLS.
	TLS *tls.Config
	// Reconnect makes a relay that lost its connection dial again, after 50 ms at first and up to a
	// second later.
	Reconnect bool
	// Dials is how many relays connect at the same time. Default 64.
	Dials int
	// OnPoll, if not nil, is called after a relay has answered its n-th poll. It is called from
	// many goroutines and delays that relay.
	OnPoll func(relay int, poll uint64)
	// OnDisconnect, if not nil, is called when a relay lost its connection, except by Stop. err is
	// the reason and contains the server's error line, if there was one.
	OnDisconnect func(relay int, err error)
}

// FleetID returns the id of a Fleet's relay: relay-00042.
func FleetID(relay int) string { return fmt.Sprintf("relay-%05d", relay) }

// FleetStat returns the name of a Fleet's stat: stat_7.
func FleetStat(stat int) string { return "stat_" + strconv.Itoa(stat) }

// FleetCollector returns the name of a Fleet's collector: c0.
func FleetCollector(collector int) string { return "c" + strconv.Itoa(collector) }

// FleetValue returns the default value of a Fleet's stat: a million times the stat's number plus
// the poll's number.
func FleetValue(_, stat int, n uint64) float64 { return float64(stat)*1e6 + float64(n) }

// Fleet is N honest relays: they identify, add their collectors, answer get, flush and override,
// and ping every beat. Each is one goroutine, with half a kilobyte of buffer. All methods may be
// called from any goroutine.
type Fleet struct {
	o      FleetOptions
	relays []fleetRelay
	// names maps the names of get lines to collectors; items[c] holds the "c0-stat_0:" of the
	// collector's stats. Both are written before the first relay starts.
	names map[string]int
	items [][]fleetItem
	// buffers holds the memory for got lines, so that an idle relay has none.
	buffers sync.Pool

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	finishing                                      atomic.Bool
	sent, polls, connects, disconnects, complaints atomic.Uint64
	connected                                      atomic.Int64
	lastErr                                        atomic.Pointer[error]
}

type fleetItem struct {
	stat   int
	prefix string
}

type fleetRelay struct {
	polls uint64 // used only by the relay's goroutine
	mu    sync.Mutex
	conn  net.Conn // guarded by mu; nil while not connected
}

// NewFleet prepares a fleet; it dials nothing before Start.
func NewFleet(o FleetOptions) *Fleet {
	o.N, o.Stats, o.Collectors, o.Dials = cmp.Or(o.N, 1), cmp.Or(o.Stats, 10), cmp.Or(o.Collectors, 1), cmp.Or(o.Dials, 64)
	if o.Value == nil {
		o.Value = FleetValue
	}
	if o.ID == nil {
		o.ID = FleetID
	}
	if o.Collector == nil {
		o.Collector = FleetCollector
	}
	if o.Tags == nil {
		o.Tags = func(int, int) []string { return nil }
	}
	f := &Fleet{o: o, relays: make([]fleetRelay, o.N), names: make(map[string]int, o.Collectors), items: make([][]fleetItem, o.Collectors)}
	for c := range o.Collectors {
		f.names[o.Collector(c)] = c
	}
	for s := range o.Stats {
		c := s % o.Collectors
		f.items[c] = append(f.items[c], fleetItem{stat: s, prefix: o.Collector(c) + "-" + FleetStat(s) + ":"})
	}
	f.buffers.New = func() any { b := make([]byte, 0, 16+32*o.Stats); return &b }
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Start connects all relays and returns when each has been welcomed and has sent its adds. If a
// relay fails or ctx ends, Start stops the fleet and returns that error. With Reconnect the relays
// retry until ctx ends.
func (f *Fleet) Start(ctx context.Context) error {
	type result struct{ err error }
	results := make(chan result, f.o.N)
	slots := make(chan struct{}, f.o.Dials)
	for i := range f.relays {
		f.wg.Go(func() {
			f.run(i, slots, func(err error) { results <- result{err} })
		})
	}
	for range f.relays {
		select {
		case r := <-results:
			if r.err != nil {
				f.Stop()
				return r.err
			}
		case <-ctx.Done():
			err := context.Cause(ctx)
			if last := f.Err(); last != nil {
				err = fmt.Errorf("%w; the last relay failed with: %w", err, last)
			}
			f.Stop()
			return err
		}
	}
	return nil
}

// Stop closes every connection without a close line, as a power cut would, and returns when all
// goroutines have ended. It may be called more than once, also before Start.
func (f *Fleet) Stop() {
	f.cancel()
	for i := range f.relays {
		f.Drop(i)
	}
	f.wg.Wait()
}

// Finish ends the relays' side of every connection. It returns when the server has read everything
// and closed every connection, or after a minute. Stop, in contrast, loses lines that are being
// sent: a connection that is closed with unread bytes is reset at both ends.
func (f *Fleet) Finish() {
	f.finishing.Store(true)
	f.cancel()
	for i := range f.relays {
		r := &f.relays[i]
		r.mu.Lock()
		if half, ok := r.conn.(interface{ CloseWrite() error }); ok {
			_ = r.conn.SetReadDeadline(time.Now().Add(time.Minute))
			_ = half.CloseWrite()
		}
		r.mu.Unlock()
	}
	f.wg.Wait()
}

// Drop closes one relay's connection. With Reconnect the relay reconnects.
func (f *Fleet) Drop(relay int) {
	r := &f.relays[relay]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.Close()
	}
}

// Sent returns how many readings have been written; it counts them after a successful write.
func (f *Fleet) Sent() uint64 { return f.sent.Load() }

// Polls returns how many get lines have been answered; it counts them after a successful write.
func (f *Fleet) Polls() uint64 { return f.polls.Load() }

// Connected returns how many relays are connected and welcomed now.
func (f *Fleet) Connected() int { return int(f.connected.Load()) }

// Connects returns how many times a relay was welcomed.
func (f *Fleet) Connects() uint64 { return f.connects.Load() }

// Disconnects returns how many times a welcomed relay lost its connection, except by Stop.
func (f *Fleet) Disconnects() uint64 { return f.disconnects.Load() }

// Complaints returns how many error lines the server sent to welcomed relays.
func (f *Fleet) Complaints() uint64 { return f.complaints.Load() }

// Err returns the newest reason why a relay could not connect or lost its connection, or the
// server's newest error line; nil if there was neither.
func (f *Fleet) Err() error {
	if p := f.lastErr.Load(); p != nil {
		return *p
	}
	return nil
}

// run is the life of one relay. It calls ready once: when the relay was first welcomed, or when it
// gave up before that.
func (f *Fleet) run(i int, slots chan struct{}, ready func(error)) {
	told := false
	tell := func(err error) {
		if !told {
			told = true
			ready(err)
		}
	}
	const first, limit = 50 * time.Millisecond, time.Second
	wait := first
	for {
		welcomed := false
		err := f.connect(i, slots, func() { welcomed = true; tell(nil) })
		if f.ctx.Err() != nil {
			tell(f.ctx.Err())
			return
		}
		f.lastErr.Store(&err)
		if welcomed {
			wait = first
			f.disconnects.Add(1)
			if f.o.OnDisconnect != nil {
				f.o.OnDisconnect(i, err)
			}
		}
		if !f.o.Reconnect {
			tell(err)
			return
		}
		// Half of the pause is random, so that ten thousand relays do not reconnect at the same
		// time.
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-pause.C:
		case <-f.ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, limit)
	}
}

// connect dials, identifies, adds and then serves until the connection ends. It always returns an
// error.
func (f *Fleet) connect(i int, slots chan struct{}, welcomed func()) error {
	select {
	case slots <- struct{}{}:
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
	// Dialling needs more stack than serving. A goroutine of its own gives that stack back, so that
	// an idle relay costs 8 KiB instead of 12.
	welcoming := make(chan welcome, 1)
	go func() { welcoming <- f.welcome(i) }()
	w := <-welcoming
	<-slots
	if w.conn != nil {
		defer f.forget(i, w.conn)
	}
	if w.err != nil {
		return fmt.Errorf("%s: %w", f.o.ID(i), w.err)
	}
	f.connects.Add(1)
	f.connected.Add(1)
	defer f.connected.Add(-1)
	welcomed()
	return fmt.Errorf("%s: %w", f.o.ID(i), f.serve(i, w.conn, w.lines))
}

// welcome is the result of connecting. If conn is not nil, it has to be closed, whatever err is.
type welcome struct {
	conn  net.Conn
	lines *relaywire.Reader
	err   error
}

func (f *Fleet) welcome(i int) welcome {
	ctx, cancel := context.WithTimeout(f.ctx, Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.o.Addr)
	if err != nil {
		return welcome{err: err}
	}
	if f.o.TLS != nil {
		conn = tls.Client(conn, f.o.TLS)
	}
	r := &f.relays[i]
	r.mu.Lock()
	r.conn = conn
	r.mu.Unlock()
	if f.ctx.Err() != nil { // Stop came before it could find the connection
		return welcome{conn: conn, err: f.ctx.Err()}
	}
	_ = conn.SetDeadline(time.Now().Add(Timeout))
	line := relaywire.AppendID(nil, f.o.ID(i), f.o.Token)
	if _, err := conn.Write(line); err != nil {
		return welcome{conn: conn, err: err}
	}
	lines := relaywire.NewReader(conn)
	m, err := lines.Read()
	if err == nil && m.Verb != relaywire.VerbOK {
		err = fmt.Errorf("the server said %q to the id", m.Args)
	}
	if err == nil {
		line = line[:0]
		for c := range f.o.Collectors {
			line = relaywire.AppendAdd(line, f.o.Collector(c), f.o.Tags(i, c))
		}
		_, err = conn.Write(line)
	}
	_ = conn.SetDeadline(time.Time{})
	return welcome{conn, lines, err}
}

func (f *Fleet) forget(i int, conn net.Conn) {
	_ = conn.Close()
	r := &f.relays[i]
	r.mu.Lock()
	r.conn = nil
	r.mu.Unlock()
}

// serve answers until the connection ends. The read deadline is the clock of the beat. serve sets
// it only when it has passed or a beat line came, so that a poll does not pay for it.
func (f *Fleet) serve(i int, conn net.Conn, lines *relaywire.Reader) error {
	var complaint error      // of the server's last line: it may hang up next, or only refuse one thing
	beat := 30 * time.Second // until a beat line
	_ = conn.SetReadDeadline(time.Now().Add(beat))
	for {
		m, err := lines.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) && !f.finishing.Load() {
			_ = conn.SetReadDeadline(time.Now().Add(beat))
			if _, err := conn.Write([]byte("ping\n")); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return errors.Join(err, complaint)
		}
		complaint = nil
		switch m.Verb {
		case relaywire.VerbGet:
			err = f.answer(i, conn, m.Args)
		case relaywire.VerbBeat:
			if d, bad := relaywire.ParseBeat(m.Args); bad == nil && !f.finishing.Load() {
				beat = d
				_ = conn.SetReadDeadline(time.Now().Add(beat))
			}
		case relaywire.VerbFlush, relaywire.VerbOverride:
			_, err = conn.Write([]byte("ok\n"))
		case relaywire.VerbError:
			f.complaints.Add(1)
			complaint = fmt.Errorf("the server said %q", m.Args)
			last := fmt.Errorf("%s: %w", f.o.ID(i), complaint)
			f.lastErr.Store(&last)
		}
		if err != nil && !f.finishing.Load() {
			return err
		}
	}
}

func (f *Fleet) answer(i int, conn net.Conn, args []byte) error {
	r := &f.relays[i]
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	line, n, readings := append((*buf)[:0], "got "...), r.polls+1, uint64(0)
	for name := range relaywire.Names(args) {
		c, ok := f.names[string(name)]
		if !ok {
			continue
		}
		for _, item := range f.items[c] {
			line = append(line, item.prefix...)
			line = append(appendValue(line, f.o.Value(i, item.stat, n)), ',')
			readings++
		}
	}
	*buf = line
	if readings == 0 {
		return nil
	}
	line[len(line)-1] = '\n'
	if _, err := conn.Write(line); err != nil {
		return err
	}
	r.polls = n
	f.sent.Add(readings)
	f.polls.Add(1)
	if f.o.OnPoll != nil {
		f.o.OnPoll(i, n)
	}
	return nil
}

// appendValue writes whole numbers the fast way.
func appendValue(dst []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}
