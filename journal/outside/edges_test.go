package outside

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal/codec"
)

// kept is what a test knows of an event: under which subject it is stored, and whose it is.
type kept struct {
	seq                  uint64
	subject, edge, relay string
	relayEvent, past     bool
}

// ofEdges appends events of a hub's own relays and of those of three edges. Some relays, and an edge,
// have names that are words in subjects.
func ofEdges(tb testing.TB, j *opened) (all []kept) {
	tb.Helper()
	for _, edge := range []string{"", "ams1", "fra1", "past"} {
		for i, relay := range []string{"web1", "web.2", "readings", "relays", "live", "past"} {
			readings, events := codec.Subjects(codec.RelayKey{Edge: edge, Relay: relay})
			for _, k := range []kept{
				{subject: readings, edge: edge, relay: relay}, {subject: readings + codec.PastSuffix, edge: edge, relay: relay, past: true},
				{subject: events, edge: edge, relay: relay, relayEvent: true},
			} {
				e := sample(relay, i)
				e.Edge, e.Past = edge, k.past
				if edge != "" {
					e.Origin = int64(len(all) + 1)
				}
				var err error
				if k.relayEvent {
					k.seq, err = j.AppendRelayEvent(tb.Context(), &codec.RelayEvent{Relay: relay, Time: e.Time, Kind: codec.RelayConnected, Edge: edge, Origin: e.Origin})
				} else {
					k.seq, err = j.Append(tb.Context(), e)
				}
				if err != nil {
					tb.Fatal(err)
				}
				all = append(all, k)
			}
		}
	}
	return all
}

// edgeFilters are what clients of a hub ask for, and what they get for it.
var edgeFilters = map[string]func(kept) bool{
	"pulse.>":                    func(kept) bool { return true },
	"pulse.ams1.>":               func(k kept) bool { return k.edge == "ams1" },
	"pulse.ams1.readings.>":      func(k kept) bool { return k.edge == "ams1" && !k.relayEvent },
	"pulse.ams1.readings.*":      func(k kept) bool { return k.edge == "ams1" && !k.relayEvent && !k.past },
	"pulse.fra1.relays.web%2E2":  func(k kept) bool { return k.edge == "fra1" && k.relayEvent && k.relay == "web.2" },
	"pulse.*.readings.web1":      func(k kept) bool { return k.edge != "" && !k.relayEvent && !k.past && k.relay == "web1" },
	"pulse.*.readings.*.past":    func(k kept) bool { return k.edge != "" && k.past },
	"pulse.*.readings.live.past": func(k kept) bool { return k.edge != "" && k.past && k.relay == "live" },
	"pulse.readings.>":           func(k kept) bool { return k.edge == "" && !k.relayEvent },
	"pulse.relays.*":             func(k kept) bool { return k.edge == "" && k.relayEvent },
	"pulse.other.>":              func(kept) bool { return false },
	// A relay of the hub itself may be called as if it were a kind of its own: see docs/SUBSCRIBE.md.
	"pulse.*.readings.>": func(k kept) bool { return k.edge != "" && !k.relayEvent || k.subject == "pulse.readings.readings.past" },
	"pulse.*.relays.>":   func(k kept) bool { return k.edge != "" && k.relayEvent || k.subject == "pulse.readings.relays.past" },
	"pulse.*.live.>":     func(k kept) bool { return k.subject == "pulse.readings.live.past" },
}

// meant are those of all that a filter means.
func meant(all []kept, filter string) []kept {
	return slices.DeleteFunc(slices.Clone(all), func(k kept) bool { return !edgeFilters[filter](k) })
}

// hears checks that a subscription gets messages with these subjects, and no other one.
func hears(tb testing.TB, nc *nats.Conn, sub *nats.Subscription, subjects ...string) {
	tb.Helper()
	for i, want := range subjects {
		if m, err := sub.NextMsg(30 * time.Second); err != nil || m.Subject != want {
			tb.Fatalf("%s: message %d of %d is %v, %v instead of %s", sub.Subject, i, len(subjects), m, err, want)
		}
	}
	if err := nc.Flush(); err != nil {
		tb.Fatal(err)
	}
	if m, err := sub.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		tb.Errorf("%s hears %v, %v besides", sub.Subject, m, err)
	}
}

func subscribe(tb testing.TB, nc *nats.Conn, subjects ...string) map[string]*nats.Subscription {
	tb.Helper()
	subs := make(map[string]*nats.Subscription)
	for _, subject := range subjects {
		sub, err := nc.SubscribeSync(subject)
		if err != nil {
			tb.Fatal(err)
		}
		subs[subject] = sub
	}
	if err := nc.Flush(); err != nil {
		tb.Fatal(err)
	}
	return subs
}

// Plain subscriptions hear the events of all edges or of one, each event once, with either password
// and whatever the names are.
func TestOutsideHearsEdges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{ReadPassword: "only reads"})
	clients := []*nats.Conn{client(t, j), client(t, j, nats.UserInfo("pulse", "only reads"))}
	var subs []map[string]*nats.Subscription
	for _, nc := range clients {
		subs = append(subs, subscribe(t, nc, slices.Collect(maps.Keys(edgeFilters))...))
	}
	all := ofEdges(t, j)
	all = append(all, kept{subject: "pulse.readings.last"}) // when it has come, all others have
	appendN(t, j, "last", 0, 1)
	for i, nc := range clients {
		var want []string
		for _, k := range all {
			want = append(want, k.subject)
		}
		hears(t, nc, subs[i]["pulse.>"], want...)
		for filter, sub := range subs[i] {
			if want = nil; filter == "pulse.>" {
				continue
			}
			for _, k := range meant(all, filter) {
				want = append(want, k.subject)
			}
			hears(t, nc, sub, want...)
		}
	}
}

// Live readings of edges are heard once each, with either password.
func TestOutsideHearsEdgesLive(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{ReadPassword: "only reads"})
	published := []string{"pulse.live.web1.cpu", "pulse.ams1.live.web1.cpu", "pulse.fra1.live.web1.cpu", "pulse.ams1.live.live.live",
		"pulse.live.live.cpu", "pulse.live.readings.cpu", "pulse.past.live.readings.past"}
	listens := map[string][]int{"pulse.>": {0, 1, 2, 3, 4, 5, 6}, "pulse.ams1.>": {1, 3}, "pulse.ams1.live.>": {1, 3}, "pulse.*.live.*.*": {1, 2, 3, 6},
		"pulse.*.live.*.cpu": {1, 2}, "pulse.*.live.>": {1, 2, 3, 4, 6}, "pulse.live.>": {0, 4, 5}, "pulse.ams1.live.web1.*": {1},
		"pulse.fra1.live.web1.cpu": {2}, "pulse.other.>": nil, "pulse.ams1.readings.>": nil}
	for _, password := range []string{outsidePassword, "only reads"} {
		nc := client(t, j, nats.UserInfo("pulse", password))
		for listen, indexes := range listens {
			sub := subscribe(t, nc, listen)[listen]
			var want []string
			for i, subject := range published {
				wanted := slices.Contains(indexes, i)
				if got := j.WantedSubject(subject); got != wanted || !j.Wanted() {
					t.Errorf("with %s: %s is wanted: %v", listen, subject, got)
				}
				if err := j.Publish(subject, []byte("1")); err != nil {
					t.Fatal(err)
				}
				if wanted {
					want = append(want, subject)
				}
			}
			if err := j.current().live.conn.Flush(); err != nil {
				t.Fatal(err)
			}
			hears(t, nc, sub, want...)
			if err := sub.Unsubscribe(); err != nil {
				t.Fatal(err)
			}
		}
		nc.Close()
	}
	if state, err := j.State(t.Context()); err != nil || state.LastSeq != 0 {
		t.Errorf("the journal holds %+v, %v", state, err)
	}
}

// Consumers with filters get the events of all edges or of one, each once and in order, and what an
// event says names its edge.
func TestOutsideReadsEdges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	all := ofEdges(t, j)
	s := stream(t, client(t, j))
	n := 0
	for filter := range edgeFilters {
		n++
		c, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: fmt.Sprintf("mine-%d", n), AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: filter})
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		consumes(t, c, meant(all, filter))
		ordered, err := s.OrderedConsumer(patient(t), jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		if want := meant(all, filter); len(want) > 0 {
			if m, err := ordered.Next(jetstream.FetchMaxWait(30 * time.Second)); err != nil || m.Subject() != want[0].subject {
				t.Errorf("%s: an ordered consumer gets %v, %v", filter, m, err)
			}
		}
	}
	// A client adds the edges to a filter that it has. Both filters match pulse.readings.readings.past,
	// and it comes once.
	mine := jetstream.ConsumerConfig{Durable: "readings", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "pulse.readings.>"}
	if _, err := s.CreateConsumer(patient(t), mine); err != nil {
		t.Fatal(err)
	}
	mine.FilterSubject, mine.FilterSubjects = "", []string{"pulse.readings.>", "pulse.*.readings.>"}
	c, err := s.UpdateConsumer(patient(t), mine)
	if err != nil {
		t.Fatal(err)
	}
	consumes(t, c, slices.DeleteFunc(slices.Clone(all), func(k kept) bool { return k.relayEvent }))
}

// consumes checks that a consumer has exactly these events.
func consumes(tb testing.TB, c jetstream.Consumer, want []kept) {
	tb.Helper()
	filters := strings.Join(append(c.CachedInfo().Config.FilterSubjects, c.CachedInfo().Config.FilterSubject), " ")
	if n := c.CachedInfo().NumPending; n != uint64(len(want)) {
		tb.Errorf("%s: %d are pending instead of %d", filters, n, len(want))
	}
	seqs := take(tb, c, len(want))
	for i, k := range want {
		if seqs[i] != k.seq {
			tb.Fatalf("%s: number %d is %d instead of %d", filters, i, seqs[i], k.seq)
		}
	}
	info, err := c.Info(tb.Context())
	if err != nil || info.NumPending != 0 {
		tb.Errorf("%s: %+v, %v", filters, info, err)
	}
}

// Direct gets find the events of edges by subject, with the password that only reads too.
func TestOutsideGetsOfEdges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{ReadPassword: "only reads"})
	all := ofEdges(t, j)
	s := stream(t, client(t, j, nats.UserInfo("pulse", "only reads")))
	var decoder codec.Decoder
	for _, k := range all {
		m, err := s.GetLastMsgForSubject(patient(t), k.subject)
		if err != nil || m.Sequence != k.seq || m.Subject != k.subject {
			t.Fatalf("%s: %v, %v", k.subject, m, err)
		}
		var e codec.Event
		var r codec.RelayEvent
		if k.relayEvent {
			if err = decoder.DecodeRelayEvent(m.Data, &r); err == nil && r.Key() == (codec.RelayKey{Edge: k.edge, Relay: k.relay}) {
				continue
			}
		} else if err = decoder.DecodeEvent(m.Data, &e); err == nil && e.Key() == (codec.RelayKey{Edge: k.edge, Relay: k.relay}) && (e.Origin != 0) == (k.edge != "") {
			continue
		}
		t.Errorf("%s: %s, %v", k.subject, m.Data, err)
	}
	next, err := s.GetMsg(patient(t), 1, jetstream.WithGetMsgSubject("pulse.fra1.>"))
	if err != nil || next.Sequence != meant(all, "pulse.ams1.>")[17].seq+1 {
		t.Errorf("the first of fra1: %+v, %v", next, err)
	}
	info, err := s.Info(patient(t), jetstream.WithSubjectFilter("pulse.ams1.>"))
	if err != nil || len(info.State.Subjects) != len(meant(all, "pulse.ams1.>")) {
		t.Errorf("the subjects of ams1: %+v, %v", info, err)
	}
	if _, err := s.GetLastMsgForSubject(patient(t), "pulse.other.readings.web1"); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("of an edge that is not there: %v", err)
	}
}
