package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/projector/stream/streamtest"
)

var (
	_ projector.Projection = (*stream.Hub)(nil)
	_ projector.Beginner   = (*stream.Hub)(nil)
	_ projector.Ticker     = (*stream.Hub)(nil)
)

// hubRig is a hub over a journal in memory.
type hubRig struct {
	*stream.Hub
	t        testing.TB
	journal  *projectortest.Memory
	registry *prometheus.Registry
	runner   *projector.Runner
}

// newHub returns a hub whose runner is not started.
func newHub(t testing.TB, o stream.Options) *hubRig {
	t.Helper()
	r := &hubRig{t: t, journal: projectortest.NewMemory(), registry: prometheus.NewRegistry()}
	o.Registerer = r.registry
	if o.Journal == nil {
		o.Journal = r.journal
	}
	h, err := stream.NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Hub = h
	return r
}

// start starts the runner.
func (r *hubRig) start() *hubRig {
	r.t.Helper()
	runner, err := projector.NewRunner(projector.RunnerOptions{Projection: r.Hub, Journal: r.journal, Start: projector.FromEnd()})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := runner.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.runner = runner
	r.t.Cleanup(runner.Stop)
	return r
}

// begin calls Begin as a runner does. Each apply is then a batch of the runner.
func (r *hubRig) begin(position uint64) *hubRig {
	r.t.Helper()
	if err := r.Begin(r.t.Context(), projector.Origin{Position: position}); err != nil {
		r.t.Fatal(err)
	}
	return r
}

// apply appends events to the journal and applies them, one in each batch.
func (r *hubRig) apply(events ...*codec.Event) {
	r.t.Helper()
	for _, e := range events {
		seq := r.journal.Append(e)
		if position, err := r.Apply(r.t.Context(), []journal.Record{{Seq: seq, Event: e}}); err != nil || position != seq {
			r.t.Fatalf("Apply returned %d, %v", position, err)
		}
	}
}

func (r *hubRig) subscribe(q stream.Request) *client {
	r.t.Helper()
	s, err := r.Subscribe(q)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.Close)
	return &client{Subscription: s, t: r.t}
}

func (r *hubRig) metric(name string, reason ...string) int {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "pulse_projector_sse_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(reason) == 0 || m.GetLabel()[0].GetValue() == reason[0] {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	r.t.Fatalf("there is no metric %s %v", name, reason)
	return 0
}

func (r *hubRig) wantMetric(want int, name string, reason ...string) {
	r.t.Helper()
	if got := r.metric(name, reason...); got != want {
		r.t.Errorf("%s %v is %d, want %d", name, reason, got, want)
	}
}

// client is a stream as its client sees it.
type client struct {
	*stream.Subscription
	t      testing.TB
	events []streamtest.Event // received and not yet returned
	id     string             // the id of the last event
}

// next returns the next event, including blocks without data.
func (c *client) next() streamtest.Event {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for len(c.events) == 0 {
		b, err := c.Next(ctx, nil)
		if err != nil {
			c.t.Fatalf("the stream ended: %v", err)
		}
		c.events = parse(c.t, b)
	}
	ev := c.events[0]
	c.events = c.events[1:]
	if ev.ID != "" {
		c.id = ev.ID
	}
	return ev
}

// shown returns the next event that has data.
func (c *client) shown() streamtest.Event {
	c.t.Helper()
	for {
		if ev := c.next(); ev.Data != "" {
			return ev
		}
	}
}

func (c *client) wantShown(typ, id, data string) {
	c.t.Helper()
	if ev := c.shown(); ev.Type != typ || ev.ID != id || ev.Data != data {
		c.t.Fatalf("got %s %s %s\nwant %s %s %s", ev.Type, ev.ID, ev.Data, typ, id, data)
	}
}

func (c *client) wantEOF() {
	c.t.Helper()
	if b, err := c.Next(c.t.Context(), nil); !errors.Is(err, io.EOF) || len(b) != 0 {
		c.t.Fatalf("after the end: %q, %v", b, err)
	}
}

// parse splits b into events. b must end with a complete event.
func parse(t testing.TB, b []byte) (events []streamtest.Event) {
	t.Helper()
	if !bytes.HasSuffix(b, []byte("\n\n")) {
		t.Fatalf("half an event: %q", b)
	}
	for r := streamtest.NewEvents(bytes.NewReader(b)); ; {
		ev, err := r.Next()
		if err != nil {
			return events
		}
		events = append(events, ev)
	}
}

// said is the decoded data of a message.
type said struct {
	Relay    string        `json:"relay"`
	Time     int64         `json:"time"`
	Readings []saidReading `json:"readings"`
	LeftOut  int           `json:"left_out"`
}

type saidReading struct {
	Stat  string            `json:"stat"`
	Value float64           `json:"value"`
	Tags  map[string]string `json:"tags"`
}

func decode(t testing.TB, data string) said {
	t.Helper()
	var m said
	d := json.NewDecoder(strings.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
	return m
}

// expect returns the message that a stream must send for an event, made in a simple way. Without
// readings the stream must send nothing.
func expect(e *codec.Event, q stream.Request) said {
	m := said{Relay: e.Relay, Time: e.Time}
	if e.Past {
		return m
	}
	for _, c := range e.Collectors {
		tags := map[string]string{"host": e.Relay}
		for _, t := range c.Tags {
			key, value, ok := strings.Cut(t, ":")
			if _, has := tags[key]; ok && !has && key != "" && value != "" && key != "time" {
				tags[key] = value
			}
		}
		match := true
		for key, values := range q.Filters {
			match = match && slices.Contains(values, tags[key])
		}
		for _, s := range c.Stats {
			if match && (q.Stat == "" || q.Stat == s.ID) {
				m.Readings = append(m.Readings, saidReading{s.ID, s.Value, tags})
			}
		}
	}
	return m
}

// follower compares a stream, over any number of cuts, with the journal.
type follower struct {
	t       testing.TB
	request stream.Request
	id      string
	seen    map[uint64]said
	last    uint64
	gaps    []string
}

func (f *follower) take(ev streamtest.Event) {
	f.t.Helper()
	if ev.ID != "" {
		f.id = ev.ID
	}
	switch ev.Type {
	case "readings":
		seq, err := strconv.ParseUint(ev.ID, 10, 64)
		if err != nil {
			f.t.Fatal(err)
		}
		if seq <= f.last {
			f.t.Fatalf("record %d came after %d", seq, f.last)
		}
		f.last = seq
		f.seen[seq] = decode(f.t, ev.Data)
	case "gap":
		f.gaps = append(f.gaps, ev.Data)
	}
}

// resume returns the request with which the follower goes on after a cut.
func (f *follower) resume() stream.Request {
	q := f.request
	if f.id != "" {
		q.Resume = true
		var err error
		if q.After, err = strconv.ParseUint(f.id, 10, 64); err != nil {
			f.t.Fatal(err)
		}
	}
	return q
}

// check compares the messages with all records of the journal after the record behind.
func (f *follower) check(m *projectortest.Memory, behind uint64) {
	f.t.Helper()
	want := 0
	m.Events(func(seq uint64, e *codec.Event) {
		if seq <= behind {
			return
		}
		w := expect(e, f.request)
		if len(w.Readings) == 0 {
			return
		}
		want++
		if got, ok := f.seen[seq]; !ok || !reflect.DeepEqual(got, w) {
			f.t.Fatalf("record %d: got %+v, want %+v", seq, got, w)
		}
	})
	if len(f.seen) != want {
		f.t.Fatalf("%d messages, want %d", len(f.seen), want)
	}
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}
