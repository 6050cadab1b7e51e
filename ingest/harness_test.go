package ingest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	bolt "go.etcd.io/bbolt"

	"github.com/nanopack/pulse/journal/codec"
)

// fakeJournal keeps all events in the order in which they came. If append or relayEvent is set, it
// is called first.
type fakeJournal struct {
	append     func(ctx context.Context, e *codec.Event) error
	relayEvent func(ctx context.Context, e *codec.RelayEvent) error

	mu       sync.Mutex // guards the fields below
	events   []codec.Event
	relays   []codec.RelayEvent
	lines    []string // all events as text
	readings int
}

func (j *fakeJournal) Append(ctx context.Context, e *codec.Event) (uint64, error) {
	if j.append != nil {
		if err := j.append(ctx, e); err != nil {
			return 0, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	c := *e
	c.Collectors = slices.Clone(e.Collectors)
	for i := range c.Collectors {
		c.Collectors[i].Stats = slices.Clone(c.Collectors[i].Stats)
	}
	j.events = append(j.events, c)
	j.lines = append(j.lines, eventText(e))
	j.readings += e.Readings()
	return uint64(len(j.lines)), nil
}

func (j *fakeJournal) AppendRelayEvent(ctx context.Context, e *codec.RelayEvent) (uint64, error) {
	if j.relayEvent != nil {
		if err := j.relayEvent(ctx, e); err != nil {
			return 0, err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.relays = append(j.relays, *e)
	j.lines = append(j.lines, relayEventText(e))
	return uint64(len(j.lines)), nil
}

// Spooled reads the newest events as the journal does.
func (j *fakeJournal) Spooled(_ context.Context, relay string) (took, past codec.Spool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		switch {
		case e.Relay != relay:
		case e.Past:
			past = e.Spool
		default:
			took = e.Spool
		}
	}
	return took, past, nil
}

func (j *fakeJournal) text() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// kinds returns the relay events of one relay as "kind" or "kind:collector" or "kind:reason".
func (j *fakeJournal) kinds(relay string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for _, e := range j.relays {
		if e.Relay != relay {
			continue
		}
		s := string(e.Kind)
		if e.Collector != "" {
			s += ":" + e.Collector
		} else if e.Reason != "" {
			s += ":" + e.Reason
		}
		out = append(out, s)
	}
	return out
}

func eventText(e *codec.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "readings %s", e.Relay)
	for _, c := range e.Collectors {
		fmt.Fprintf(&b, " | %s %v", c.Name, c.Tags)
		for _, s := range c.Stats {
			fmt.Fprintf(&b, " %s=%v", s.ID, s.Value)
		}
	}
	return b.String()
}

func relayEventText(e *codec.RelayEvent) string {
	parts := []string{string(e.Kind), e.Relay}
	if e.Collector != "" {
		parts = append(parts, e.Collector)
	}
	if len(e.Tags) > 0 {
		parts = append(parts, fmt.Sprint(e.Tags))
	}
	if e.Interval > 0 {
		parts = append(parts, fmt.Sprintf("%v for %v", e.Interval, e.Duration))
	}
	if e.Reason != "" && e.Kind != codec.RelayOverride {
		parts = append(parts, "("+e.Reason+")")
	}
	return strings.Join(parts, " ")
}

// pipes is a listener of net.Pipe connections, for tests with synctest's clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	// fail, if set, is called first by Accept.
	fail func() error
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	if p.fail != nil {
		if err := p.fail(); err != nil {
			return nil, err
		}
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// dial returns the relay's end of a new connection.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// world is a server with its surroundings. It can be stopped and started again on the same state
// file.
type world struct {
	t       testing.TB
	path    string
	opt     Options
	db      *bolt.DB
	ln      *pipes
	journal *fakeJournal
	reg     *prometheus.Registry
	srv     *Server
}

// newWorld starts a server on pipes; change may alter its options. It is stopped when the test
// ends.
func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "pulse.db"), journal: &fakeJournal{}}
	if change != nil {
		change(&w.opt)
	}
	w.start()
	t.Cleanup(w.stop)
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.db, err = bolt.Open(w.path, 0o600, &bolt.Options{Timeout: time.Second, NoSync: true}); err != nil {
		w.t.Fatal(err)
	}
	w.ln = newPipes()
	o := w.opt
	if o.Listener == nil {
		o.Listener = w.ln
	}
	if o.Journal == nil {
		o.Journal = w.journal
	}
	w.reg = prometheus.NewRegistry()
	o.DB, o.Registerer = w.db, w.reg
	if w.srv, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	w.srv.Start()
}

func (w *world) stop() {
	w.t.Helper()
	if w.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.srv.Stop(ctx); err != nil {
		w.t.Errorf("Stop: %v", err)
	}
	w.close()
}

func (w *world) close() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Errorf("closing the state file: %v", err)
	}
	w.db = nil
}

// metric returns the value of a metric; labels are name, value pairs.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "pulse_ingest_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if matches(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	w.t.Fatalf("no metric pulse_ingest_%s %v", name, labels)
	return 0
}

func matches(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == labels[i] && l.GetValue() == labels[i+1] }) {
			return false
		}
	}
	return true
}

func (w *world) wantMetric(want float64, name string, labels ...string) {
	w.t.Helper()
	if got := w.metric(name, labels...); got != want {
		w.t.Errorf("%s %v = %v, want %v", name, labels, got, want)
	}
}

// relay returns the entry of one relay in Relays.
func (w *world) relay(id string) Relay {
	w.t.Helper()
	for _, r := range w.srv.Relays() {
		if r.ID == id {
			return r
		}
	}
	w.t.Fatalf("Relays does not list %q: %v", id, w.srv.Relays())
	return Relay{}
}

// peer is the relay's end of a connection. The server's lines are read all the time.
type peer struct {
	t     testing.TB
	conn  net.Conn
	lines chan string // closed when the connection is closed
}

// dial connects without sending anything.
func (w *world) dial() *peer {
	p := &peer{t: w.t, conn: w.ln.dial(), lines: make(chan string, 10_000)}
	go func() {
		defer close(p.lines)
		sc := bufio.NewScanner(p.conn)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			p.lines <- sc.Text()
		}
	}()
	w.t.Cleanup(func() {
		p.conn.Close()
		for range p.lines {
		}
	})
	return p
}

// connect dials and identifies.
func (w *world) connect(id string) *peer {
	w.t.Helper()
	p := w.dial()
	p.send("id " + id)
	p.want("ok")
	p.want("beat 30")
	p.want("takes past")
	return p
}

func (p *peer) send(lines ...string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		p.t.Fatalf("sending %.60q: %v", lines, err)
	}
}

// next returns the next line, or "" when the connection was closed.
func (p *peer) next() string { return <-p.lines }

func (p *peer) want(line string) {
	p.t.Helper()
	select {
	case got, ok := <-p.lines:
		if !ok {
			got = "(closed)"
		}
		if got != line {
			p.t.Fatalf("server said %q, want %q", got, line)
		}
	case <-time.After(time.Hour):
		p.t.Fatalf("server said nothing for an hour, want %q", line)
	}
}

func (p *peer) wantClosed() {
	p.t.Helper()
	select {
	case got, ok := <-p.lines:
		if ok {
			p.t.Fatalf("server said %q, want the connection closed", got)
		}
	case <-time.After(time.Hour):
		p.t.Fatal("the connection is still open after an hour")
	}
}

// wantSilence checks that the server sends nothing for d.
func (p *peer) wantSilence(d time.Duration) {
	p.t.Helper()
	select {
	case got, ok := <-p.lines:
		p.t.Fatalf("server said %q (open: %v), want nothing for %v", got, ok, d)
	case <-time.After(d):
	}
}

// add sends adds and expects the oks.
func (p *peer) add(names ...string) {
	p.t.Helper()
	for _, n := range names {
		p.send("add " + n)
		p.want("ok")
	}
}

// answer answers every get with one reading for each name, until the connection ends or stop is
// closed. It pings to keep the connection open.
func (p *peer) answer(stop <-chan struct{}) {
	ping := time.NewTicker(20 * time.Second)
	defer ping.Stop()
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return
			}
			if names, ok := strings.CutPrefix(line, "get "); ok {
				p.conn.Write([]byte("got " + strings.ReplaceAll(names, ",", "-v:1,") + "-v:1\n"))
			}
		case <-ping.C:
			p.conn.Write([]byte("ping\n"))
		case <-stop:
			return
		}
	}
}

// settle waits until every goroutine is blocked.
func settle() { synctest.Wait() }

func counterValue(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
