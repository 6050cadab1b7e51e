package subjects

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/outside"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

// listener is a Publisher to which wanted is listened.
type listener struct {
	wanted func(subject string) bool // nil: nobody listens
	fail   bool
	got    map[string]string
	asked  int
}

func (l *listener) Wanted() bool { return l.wanted != nil }
func (l *listener) WantedSubject(subject string) bool {
	l.asked++
	return l.wanted(subject)
}
func (l *listener) Publish(subject string, payload []byte) error {
	if l.fail {
		return errors.New("the server is away")
	}
	if l.got == nil {
		l.got = make(map[string]string)
	}
	l.got[subject] = string(payload)
	return nil
}

func newProjection(tb testing.TB, p Publisher) *Projection {
	tb.Helper()
	n, err := New(Options{Publisher: p, MaxAge: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func TestPublishes(t *testing.T) {
	now := time.Now().UnixNano()
	e := &codec.Event{Relay: "web.1 *", Time: now, Collectors: []codec.Collector{
		{Name: "cpu", Tags: []string{"service:\"a\"", "guy", "host:liar"}, Stats: []codec.Stat{{ID: "cpu", Value: 0.25}, {ID: "a>b", Value: -1e300}}},
		{Name: "ram", Stats: []codec.Stat{{ID: "ram", Value: 3}}}}}
	old := &codec.Event{Relay: "web1", Time: now - int64(time.Hour), Collectors: e.Collectors}
	l := &listener{wanted: func(s string) bool { return s != "pulse.live.web%2E1%20%2A.ram" }}
	n := newProjection(t, l)
	records := []journal.Record{{Seq: 1, Relay: &codec.RelayEvent{}}, {Seq: 2, Event: old}, {Seq: 3, Event: e}}
	if at, err := n.Apply(t.Context(), records); at != 3 || err != nil {
		t.Fatal(at, err)
	}
	if len(l.got) != 2 {
		t.Errorf("it published %v", l.got)
	}
	var m struct {
		Time  int64
		Value float64
		Tags  map[string]string
	}
	if err := json.Unmarshal([]byte(l.got["pulse.live.web%2E1%20%2A.cpu"]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Time != now || m.Value != 0.25 || len(m.Tags) != 2 || m.Tags["host"] != "web.1 *" || m.Tags["service"] != `"a"` {
		t.Errorf("%+v", m)
	}
	if err := json.Unmarshal([]byte(l.got["pulse.live.web%2E1%20%2A.a%3Eb"]), &m); err != nil || m.Value != -1e300 {
		t.Errorf("%v %+v", err, m)
	}
}

func TestNobodyListens(t *testing.T) {
	l := &listener{}
	n := newProjection(t, l)
	records := projectortest.Fleet(10)
	if n := testing.AllocsPerRun(100, func() {
		if at, err := n.Apply(t.Context(), records); at != 10 || err != nil {
			t.Fatal(at, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations with nobody listening", n)
	}
	if l.asked != 0 || len(n.subjects) != 0 {
		t.Error("each reading was looked at")
	}
	l.wanted = func(string) bool { return false }
	apply := func() {
		if _, err := n.Apply(t.Context(), records); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(100, apply); n != 0 {
		t.Errorf("%v allocations with somebody listening to other subjects", n)
	}
}

// What was in the journal when it began is not live, however new it is.
func TestBegins(t *testing.T) {
	published := 0
	n := newProjection(t, &listener{wanted: func(string) bool { published++; return false }})
	if err := n.Begin(t.Context(), projector.Origin{Last: 7}); err != nil {
		t.Fatal(err)
	}
	records := projectortest.Fleet(10)
	if at, err := n.Apply(t.Context(), records); at != 10 || err != nil {
		t.Fatal(at, err)
	}
	if want := 3 * records[0].Event.Readings(); published != want {
		t.Errorf("%d readings were looked at, want those of the records behind 7: %d", published, want)
	}
}

func TestFailuresToPublishAreNoErrors(t *testing.T) {
	l := &listener{wanted: func(string) bool { return true }, fail: true}
	var log bytes.Buffer
	n, err := New(Options{Publisher: l, MaxAge: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if at, err := n.Apply(t.Context(), projectortest.Fleet(3)); at != 3 || err != nil {
		t.Error(at, err)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 1 {
		t.Errorf("30 failures made %d lines of log", lines)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no publisher is needed")
	}
}

// The whole way: an event of the journal reaches a client of its server.
func TestReachesAClient(t *testing.T) {
	clients, err := outside.New(t.Context(), outside.Options{Address: "127.0.0.1:0", User: "pulse", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Dir: t.TempDir(), Outside: clients})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	nc, err := nats.Connect("nats://"+clients.Addr().String(), nats.UserInfo("pulse", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("pulse.live.host1.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	n := newProjection(t, clients)
	if _, err := n.Apply(t.Context(), projectortest.Fleet(3)); err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for range 10 {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, m.Subject)
	}
	if !slices.Contains(subjects, "pulse.live.host1.stat_9") {
		t.Errorf("%v", subjects)
	}
}

func BenchmarkApply(b *testing.B) {
	records := projectortest.Fleet(1000)
	for name, wanted := range map[string]func(string) bool{"nobody": nil, "others": func(string) bool { return false }, "all": func(string) bool { return true }} {
		b.Run(name, func(b *testing.B) {
			n := newProjection(b, &listener{wanted: wanted})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Apply(b.Context(), records); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e4, "ns/reading")
		})
	}
}

// What comes late from a relay's spool is not live.
func TestThePastIsNotPublished(t *testing.T) {
	l := &listener{wanted: func(string) bool { return true }}
	n := newProjection(t, l)
	e := &codec.Event{Relay: "web1", Time: time.Now().UnixNano(), Past: true, Collectors: []codec.Collector{{Name: "cpu", Stats: []codec.Stat{{ID: "cpu", Value: 1}}}}}
	if at, err := n.Apply(t.Context(), []journal.Record{{Seq: 1, Event: e}}); at != 1 || err != nil || len(l.got) != 0 {
		t.Errorf("at %d, %v; published %v", at, err, l.got)
	}
}

func TestSubjectsOfEdges(t *testing.T) {
	l := &listener{wanted: func(string) bool { return true }}
	n := newProjection(t, l)
	for i, edge := range []string{"", "ams1", "fra1"} {
		e := &codec.Event{Edge: edge, Relay: "web.1", Time: time.Now().UnixNano(), Collectors: []codec.Collector{{Name: "cpu", Tags: []string{"edge:mine"}, Stats: []codec.Stat{{ID: "cpu", Value: 1}}}}}
		if _, err := n.Apply(t.Context(), []journal.Record{{Seq: uint64(i + 1), Event: e}}); err != nil {
			t.Fatal(err)
		}
	}
	for subject, edge := range map[string]string{"pulse.live.web%2E1.cpu": "mine", "pulse.ams1.live.web%2E1.cpu": "ams1", "pulse.fra1.live.web%2E1.cpu": "fra1"} {
		if !strings.HasSuffix(l.got[subject], `"tags":{"edge":"`+edge+`","host":"web.1"}}`) {
			t.Errorf("%s: %s", subject, l.got[subject])
		}
	}
	if len(l.got) != 3 {
		t.Errorf("published: %v", l.got)
	}
}
