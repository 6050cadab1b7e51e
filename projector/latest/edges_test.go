package latest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector/latest"
)

// TestTheSameRelayAtTwoEdges: three relays have one id. What happens to one of them changes nothing
// of the others.
func TestTheSameRelayAtTwoEdges(t *testing.T) {
	l := latest.New(latest.Options{PollInterval: 5 * sec})
	seq := uint64(0)
	read := func(d time.Duration) {
		for i, edge := range []string{"", "ams1", "fra1"} {
			e := journaltest.Event("web1", at(d), "cpu", nil, stat("used", float64(i)))
			e.Edge = edge
			seq++
			apply(t, l, seq, e)
		}
	}
	happens := func(e codec.RelayEvent) {
		t.Helper()
		seq++
		if _, err := l.Apply(t.Context(), []journal.Record{{Seq: seq, Relay: &e}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(filters map[string][]string, since time.Duration, numbers ...float64) {
		t.Helper()
		if got := values(l, "used", filters, at(since)); !slices.Equal(got, numbers) {
			t.Errorf("%v: %v, want %v", filters, got, numbers)
		}
	}
	read(0)
	want(nil, 0, 0, 1, 2)
	want(map[string][]string{"edge": {"ams1"}}, 0, 1)
	want(map[string][]string{"edge": {""}, "host": {"web1"}}, 0, 0)
	want(map[string][]string{"host": {"web1"}, "edge": {"fra1", ""}}, 0, 0, 2)

	// fra1's web1 is polled every minute, the others every 5 s.
	override := codec.RelayEvent{Edge: "fra1", Relay: "web1", Time: at(sec), Kind: codec.RelayOverride, Collector: "cpu",
		Duration: time.Hour, Interval: time.Minute, Reason: "override 1"}
	happens(override)
	want(nil, 60*sec, 2)
	read(2 * sec)
	want(nil, 60*sec, 2)
	cancelled := override
	cancelled.Edge, cancelled.Duration, cancelled.Reason = "ams1", 0, "override 1 cancelled"
	happens(cancelled)
	read(3 * sec)
	want(nil, 60*sec, 2)

	happens(codec.RelayEvent{Edge: "ams1", Relay: "web1", Time: at(4 * sec), Kind: codec.RelayForgotten})
	want(nil, 0, 0, 2)
	if _, err := l.Tick(t.Context(), began.Add(5*sec)); err != nil {
		t.Fatal(err)
	}
	want(nil, 0, 0, 2)
	happens(codec.RelayEvent{Relay: "web1", Time: at(6 * sec), Kind: codec.RelayForgotten})
	want(nil, 0, 2)
}
