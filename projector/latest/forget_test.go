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

// TestForgottenRelay checks that the series of a forgotten relay are no longer selected, and that
// the next Tick removes everything that was made of them.
func TestForgottenRelay(t *testing.T) {
	l := latest.New(latest.Options{})
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	tick := func() {
		t.Helper()
		if _, err := l.Tick(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	forgotten := func(relay string, at int64) []journal.Record {
		return []journal.Record{{Seq: 10, Relay: &codec.RelayEvent{Relay: relay, Time: at, Kind: codec.RelayForgotten}}}
	}
	tick()
	apply(t, l, 1,
		journaltest.Event("web1", at(0), "cpu", []string{"zone:x"}, stat("used", 1), stat("used", 2), stat("own", 9)),
		journaltest.Event("web2", at(0), "cpu", nil, stat("used", 3)))

	// Other kinds of events, and the forgetting of an unknown relay, change nothing.
	for _, kind := range []codec.RelayEventKind{codec.RelayDisconnected, codec.RelayRemoved} {
		records := forgotten("web1", at(1))
		records[0].Relay.Kind = kind
		if _, err := l.Apply(t.Context(), append(records, forgotten("nobody", at(1))...)); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(l, "used", nil, 0); !slices.Equal(got, []float64{2, 3}) {
		t.Fatalf("used: %v", got)
	}

	if seq, err := l.Apply(t.Context(), forgotten("web1", at(1))); err != nil || seq != 10 {
		t.Fatalf("Apply returned %d, %v", seq, err)
	}
	if got := values(l, "used", nil, 0); !slices.Equal(got, []float64{3}) {
		t.Errorf("used, after web1 was forgotten: %v", got)
	}
	if got := values(l, "own", map[string][]string{"host": {"web1"}}, 0); len(got) != 0 {
		t.Errorf("own, after web1 was forgotten: %v", got)
	}
	now = now.Add(time.Second)
	tick()
	if stats, keys := l.Stats(), l.TagKeys(); !slices.Equal(stats, []string{"used"}) || !slices.Equal(keys, []string{"host"}) {
		t.Errorf("left: %v %v", stats, keys)
	}

	// The relay comes back, before the journal has the event and after it.
	apply(t, l, 11, journaltest.Event("web1", at(2), "cpu", []string{"zone:x"}, stat("used", 4)))
	if _, err := l.Apply(t.Context(), forgotten("web1", at(1))); err != nil {
		t.Fatal(err)
	}
	if got := values(l, "used", map[string][]string{"zone": {"x"}}, 0); !slices.Equal(got, []float64{4}) {
		t.Errorf("used, once web1 came back: %v", got)
	}
	if _, err := l.Apply(t.Context(), forgotten("web1", at(3))); err != nil {
		t.Fatal(err)
	}
	apply(t, l, 13, journaltest.Event("web1", at(4), "cpu", []string{"zone:x"}, stat("used", 5)))
	tick()
	if got := values(l, "used", nil, 0); !slices.Equal(got, []float64{3, 5}) {
		t.Errorf("used, once web1 came back within a tick: %v", got)
	}
}
