package mist

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nanopack/pulse/journal/codec"
)

// TestTopicsAlwaysEqualAnEncodingFromScratch compares every message with one that is encoded from
// scratch, while collectors come and go and change their tags and stats, and the cache is swept and
// overflows.
func TestTopicsAlwaysEqualAnEncodingFromScratch(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	topics := newTopics()
	topics.max = 700
	var got []message
	for round := range 5000 {
		e := &codec.Event{Relay: fmt.Sprint("r", rng.IntN(4)), Time: int64(round)}
		for range rng.IntN(4) {
			c := codec.Collector{Name: fmt.Sprint("c", rng.IntN(3))}
			for range rng.IntN(3) {
				c.Tags = append(c.Tags, fmt.Sprint("t", rng.IntN(3)))
			}
			for range rng.IntN(60) {
				c.Stats = append(c.Stats, codec.Stat{ID: fmt.Sprint("s", rng.IntN(70)), Value: rng.Float64()})
			}
			e.Collectors = append(e.Collectors, c)
		}
		got = topics.appendMessages(got[:0], e)
		i := 0
		for k := range e.Collectors {
			c := &e.Collectors[k]
			for _, s := range c.Stats {
				if want := (message{linePrefix(collectorTags(e.Key(), c.Tags), s.ID), s.Value, e.Time}); got[i] != want {
					t.Fatalf("round %d: %+v, want %+v", round, got[i], want)
				}
				i++
			}
		}
		if i != len(got) {
			t.Fatalf("%d messages, want %d", len(got), i)
		}
		if rng.IntN(20) == 0 {
			topics.cache.Sweep()
		}
	}
}

func TestTopicsForgetWhatIsSilent(t *testing.T) {
	topics := newTopics()
	event := func(relay string, stats ...string) *codec.Event {
		e := &codec.Event{Relay: relay, Collectors: []codec.Collector{{Name: "c"}}}
		for _, s := range stats {
			e.Collectors[0].Stats = append(e.Collectors[0].Stats, codec.Stat{ID: s})
		}
		return e
	}
	topics.appendMessages(nil, event("a", "x", "y"))
	topics.appendMessages(nil, event("b", "x"))
	if topics.cache.Sweep(); topics.cache.Len() != 3 {
		t.Fatalf("%d series, want all 3: they were just used", topics.cache.Len())
	}
	topics.appendMessages(nil, event("a", "y"))
	if topics.cache.Sweep(); topics.cache.Len() != 1 || topics.cache.Find(codec.RelayKey{Relay: "b"}) != nil {
		t.Fatalf("%d series are left, want a's y", topics.cache.Len())
	}
	for i := range 3 * 500 { // the names of the stats never repeat
		topics.max = 500
		topics.appendMessages(nil, event("a", fmt.Sprint(i)))
		if n := topics.cache.Len(); n > 501 {
			t.Fatalf("%d series are kept, at most 501 should be", n)
		}
	}
}
