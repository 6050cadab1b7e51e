package stream_test

import (
	"fmt"
	"testing"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/stream"
)

// A stream reports the records that the journal no longer has, or never had.
func TestHubGaps(t *testing.T) {
	fill := func(h *hubRig, n int) {
		for i := range n {
			h.apply(one("a", "s", float64(i+1)))
		}
	}
	t.Run("retention", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		fill(h, 10)
		h.journal.Trim(8)
		for _, after := range []uint64{0, 3} {
			c := h.subscribe(stream.Request{Resume: true, After: after})
			c.wantShown("gap", "7", fmt.Sprintf(`{"from":%d,"to":7,"count":%d,"reason":"dropped by retention"}`, after+1, 7-after))
			c.wantShown("readings", "8", data("a", "s", 8))
		}
		h.wantMetric(2, "gaps_total")
	})
	t.Run("everything expired", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		fill(h, 10)
		h.journal.Trim(11)
		c := h.subscribe(stream.Request{Resume: true, After: 3})
		c.wantShown("gap", "10", `{"from":4,"to":10,"count":7,"reason":"dropped by retention"}`)
		fill(h, 1)
		c.wantShown("readings", "11", data("a", "s", 1))
	})
	t.Run("lost in the middle", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		fill(h, 10)
		h.journal.Lose(4, 6)
		c := h.subscribe(stream.Request{Resume: true, After: 2})
		c.wantShown("readings", "3", data("a", "s", 3))
		c.wantShown("gap", "6", `{"from":4,"to":6,"count":3,"reason":"missing from the journal"}`)
		c.wantShown("readings", "7", data("a", "s", 7))
	})
	t.Run("lost while it listens", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		c := h.subscribe(stream.Request{})
		if _, err := h.Apply(t.Context(), []journal.Record{{Seq: 5, Event: one("a", "s", 5)}}); err != nil {
			t.Fatal(err)
		}
		c.wantShown("gap", "4", `{"from":1,"to":4,"count":4,"reason":"missing from the journal"}`)
		c.wantShown("readings", "5", data("a", "s", 5))
	})
	t.Run("behind the end", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		fill(h, 3)
		c := h.subscribe(stream.Request{Resume: true, After: 1000})
		c.wantShown("gap", "3", `{"from":4,"to":1000,"count":997,"reason":"the journal ends before"}`)
		fill(h, 1)
		c.wantShown("readings", "4", data("a", "s", 1))
	})
	t.Run("the hub is not so far yet", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		for i := range 3 {
			h.journal.Append(one("a", "s", float64(i+1)))
		}
		c := h.subscribe(stream.Request{Resume: true, After: 2})
		if ev := c.next(); ev.ID != "2" || ev.Type != "" {
			t.Fatalf("%+v", ev)
		}
		for i := range uint64(3) {
			if _, err := h.Apply(t.Context(), []journal.Record{{Seq: i + 1, Event: one("a", "s", float64(i+1))}}); err != nil {
				t.Fatal(err)
			}
		}
		c.wantShown("readings", "3", data("a", "s", 3))
	})
	t.Run("the runner begins earlier", func(t *testing.T) {
		h := newHub(t, stream.Options{})
		for i := range 5 {
			h.journal.Append(one("a", "s", float64(i+1)))
		}
		if err := h.Begin(t.Context(), projector.Origin{First: 1, Last: 5}); err != nil {
			t.Fatal(err)
		}
		now, before := h.subscribe(stream.Request{}), h.subscribe(stream.Request{Resume: true, After: 2})
		if ev := now.next(); ev.ID != "5" {
			t.Errorf("now is %+v", ev)
		}
		if _, err := h.Apply(t.Context(), []journal.Record{{Seq: 2, Event: one("a", "s", 2)}, {Seq: 3, Event: one("a", "s", 3)}}); err != nil {
			t.Fatal(err)
		}
		h.journal.Append(one("a", "s", 6))
		if _, err := h.Apply(t.Context(), []journal.Record{{Seq: 5, Event: one("a", "s", 5)}, {Seq: 6, Event: one("a", "s", 6)}}); err != nil {
			t.Fatal(err)
		}
		now.wantShown("readings", "6", data("a", "s", 6))
		for i := 3; i <= 6; i++ {
			before.wantShown("readings", fmt.Sprint(i), data("a", "s", float64(i)))
		}
		h.wantMetric(0, "gaps_total")
	})
	t.Run("rewound while it listens", func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		ahead, behind := h.subscribe(stream.Request{}), h.subscribe(stream.Request{})
		behind.next()
		fill(h, 10)
		for range 10 {
			ahead.shown()
		}
		h.journal.Cut(6)
		h.begin(6)
		ahead.wantShown("gap", "6", `{"from":7,"to":10,"count":4,"reason":"the journal ends before"}`)
		h.apply(one("b", "s", 7))
		ahead.wantShown("readings", "7", data("b", "s", 7))
		for i := range 6 {
			behind.wantShown("readings", fmt.Sprint(i+1), data("a", "s", float64(i+1)))
		}
		behind.wantShown("readings", "7", data("b", "s", 7))
	})
}

// A runner that finds that the journal was set back tells the hub.
func TestHubRunnerRewound(t *testing.T) {
	h := newHub(t, stream.Options{}).start()
	c := h.subscribe(stream.Request{})
	for i := range 5 {
		h.journal.Append(one("a", "s", float64(i+1)))
		c.wantShown("readings", fmt.Sprint(i+1), data("a", "s", float64(i+1)))
	}
	h.journal.Cut(2)
	c.wantShown("gap", "2", `{"from":3,"to":5,"count":3,"reason":"the journal ends before"}`)
	h.journal.Append(one("b", "s", 1))
	c.wantShown("readings", "3", data("b", "s", 1))
}
