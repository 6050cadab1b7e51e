package codec

import (
	"bytes"
	"fmt"
	"testing"
	"unsafe"
)

func TestPack(t *testing.T) {
	event := func(n int) Event {
		tags := []string{"service:web1", "guy"}
		return Event{Relay: fmt.Sprint("web", n), Time: int64(n), Collectors: []Collector{
			{Name: "cpu", Tags: tags, Stats: []Stat{{"used", float64(n)}, {"idle", 1}}},
			{Name: "ram", Tags: append([]string(nil), tags...), Stats: []Stat{{"ram", 2}}},
			{Name: "none"},
			{Name: "disk", Tags: []string{"mount:/"}},
		}}
	}
	var events []Event
	var want [][]byte
	for n := range 5 {
		e := event(n)
		data, err := EncodeEvent(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		events, want = append(events, e), append(want, data)
	}
	packed := Pack(events)
	for i := range events { // a decoder would use their memory again
		for k := range events[i].Collectors {
			c := &events[i].Collectors[k]
			c.Name = "poison"
			clear(c.Tags)
			clear(c.Stats)
		}
	}
	if len(packed) != len(want) {
		t.Fatalf("%d events of %d", len(packed), len(want))
	}
	for i := range packed {
		if got, err := EncodeEvent(nil, &packed[i]); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("event %d: %s, %v; want %s", i, got, err, want[i])
		}
		c := packed[i].Collectors
		if unsafe.SliceData(c[0].Tags) != unsafe.SliceData(c[1].Tags) {
			t.Error("two collectors with the same tags do not share them")
		}
		if cap(c) != len(c) || cap(c[0].Stats) != len(c[0].Stats) || cap(c[0].Tags) != len(c[0].Tags) {
			t.Error("a list has room that belongs to the next one")
		}
	}
	if n := testing.AllocsPerRun(100, func() { Pack(events) }); n > 4 {
		t.Errorf("%v allocations", n)
	}
	if got := Pack(nil); len(got) != 0 {
		t.Errorf("of no events: %v", got)
	}
}
