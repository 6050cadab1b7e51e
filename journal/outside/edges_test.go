package outside

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal/codec"
)

// A stored is an event as a test expects it: under which subject, and whose.
type stored struct {
	subject, edge, relay string
}

// appendEdges appends events of two edges and of the hub's own relays, some with names that are words
// in subjects, and returns what is stored, in order.
func appendEdges(tb testing.TB, j *opened) (all []stored) {
	tb.Helper()
	for _, edge := range []string{"", "ams1", "fra1", "past"} {
		for i, relay := range []string{"web1", "web.2", "readings", "relays", "live", "past"} {
			e := sample(relay, i)
			e.Edge, e.Origin = edge, int64(i)
			subject, events := codec.Subjects(e.Key())
			for _, e.Past = range []bool{false, true} {
				if e.Past {
					subject += codec.PastSuffix
				}
				if _, err := j.Append(tb.Context(), e); err != nil {
					tb.Fatal(err)
				}
				all = append(all, stored{subject, edge, relay})
			}
			r := &codec.RelayEvent{Relay: relay, Time: e.Time, Kind: codec.RelayConnected, Edge: edge, Origin: int64(i)}
			if _, err := j.AppendRelayEvent(tb.Context(), r); err != nil {
				tb.Fatal(err)
			}
			all = append(all, stored{events, edge, relay})
		}
	}
	return all
}

// edgeFilters are what clients of a hub ask for, and what of all is meant by it.
var edgeFilters = map[string]func(stored) bool{
	"pulse.>":                    func(stored) bool { return true },
	"pulse.ams1.>":               func(s stored) bool { return s.edge == "ams1" },
	"pulse.ams1.readings.>":      func(s stored) bool { return s.edge == "ams1" && has(s, "readings") },
	"pulse.ams1.readings.*":      func(s stored) bool { return s.edge == "ams1" && has(s, "readings") && !late(s) },
	"pulse.fra1.relays.web1":     func(s stored) bool { return s.edge == "fra1" && has(s, "relays") && s.relay == "web1" },
	"pulse.*.readings.web1":      func(s stored) bool { return s.edge != "" && has(s, "readings") && !late(s) && s.relay == "web1" },
	"pulse.*.readings.web1.past": func(s stored) bool { return s.edge != "" && late(s) && s.relay == "web1" },
	"pulse.*.relays.>":           func(s stored) bool { return s.edge != "" && has(s, "relays") || s.subject == "pulse.readings.relays.past" },
	"pulse.*.readings.>":         func(s stored) bool { return s.edge != "" && has(s, "readings") || s.subject == "pulse.readings.readings.past" },
	"pulse.readings.>":           func(s stored) bool { return s.edge == "" && has(s, "readings") },
	"pulse.relays.*":             func(s stored) bool { return s.edge == "" && has(s, "relays") },
	"pulse.other.>":              func(stored) bool { return false },
}

// has reports whether what is stored is of a kind, by its subject.
func has(s stored, kind string) bool {
	event, relayEvent := codec.Kind(s.subject)
	return kind == "readings" && event || kind == "relays" && relayEvent
}

func late(s stored) bool { return has(s, "readings") && strings.Count(s.subject, ".") == strings.Count("pulse."+s.edge, ".")+2+min(1, len(s.edge)) }

// A plain subscription hears each event of an edge once, whatever the names of edges and relays are.
func TestOutsideHearsEdges(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{ReadPassword: "only reads"})
	for name, nc := range map[string]*nats.Conn{"all": client(t, j), "reads": client(t, j, nats.UserInfo("pulse", "only reads"))} {
		subs := make(map[string]*nats.Subscription)
		for filter := range edgeFilters {
			sub, err := nc.SubscribeSync(filter)
			if err != nil {
				t.Fatal(err)
			}
			subs[filter] = sub
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		all := appendEdges(t, j)
		last := stored{subject: "pulse.readings.last"}
		appendN(t, j, "last", 0, 1)
		appendEnd(t, nc, subs["pulse.>"], append(slices.Clone(all), last))
		for filter, means := range edgeFilters {
			if filter != "pulse.>" {
				appendEnd(t, nc, subs[filter], matching(append(slices.Clone(all), last), means))
			}
		}
		t.Log(name)
	}
}

func matching(all []stored, means func(stored) bool) (some []stored) {
	for _, s := range all {
		if means(s) {
			some = append(some, s)
		}
	}
	return some
}

// appendEnd checks that a subscription hears exactly these, and nothing after them.
func appendEnd(tb testing.TB, nc *nats.Conn, sub *nats.Subscription, want []stored) {
	tb.Helper()
	for i, w := range want {
		m, err := sub.NextMsg(30 * time.Second)
		if err != nil || m.Subject != w.subject {
			tb.Fatalf("%s: message %d of %d is %v, %v instead of %s", sub.Subject, i, len(want), m, err, w.subject)
		}
	}
	if err := nc.Flush(); err != nil {
		tb.Fatal(err)
	}
	if m, err := sub.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		tb.Errorf("%s hears %v, %v besides", sub.Subject, m, err)
	}
}

var _ = fmt.Sprint
var _ jetstream.Consumer
