package link

import (
	"bytes"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
)

// FuzzBatch: no payload makes the reader panic or return records that are not numbered without a gap,
// and what a batch holds is read as it was added.
func FuzzBatch(f *testing.F) {
	var b batch
	for i := range 3 {
		if err := b.add(&journal.Record{Seq: uint64(i + 7), Event: &codec.Event{Relay: "web1", Time: int64(i), Collectors: []codec.Collector{{Name: "c", Tags: []string{"a:b"}, Stats: []codec.Stat{{ID: "s", Value: 1.5}}}}}}); err != nil {
			f.Fatal(err)
		}
	}
	if err := b.add(&journal.Record{Seq: 10, Relay: &codec.RelayEvent{Relay: "web1", Kind: codec.RelayConnected}}); err != nil {
		f.Fatal(err)
	}
	whole := bytes.Clone(b.take(42))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Add(s2.Encode(nil, []byte{1, 2, 3, 'e', 200, 1}))
	f.Add(s2.Encode(nil, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 2, 'e', 2, '{', '}', 'e', 2, '{', '}'}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r batchReader
		records, now, err := r.read(payload)
		if err != nil || len(records) == 0 {
			return
		}
		var again batch
		for i := range records {
			if records[i].Seq != records[0].Seq+uint64(i) || (records[i].Event == nil) == (records[i].Relay == nil) {
				t.Fatalf("record %d is %+v", i, records[i])
			}
			if err := again.add(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
		var second batchReader
		list, at, err := second.read(again.take(now))
		if err != nil || at != now || len(list) != len(records) {
			t.Fatalf("%d records instead of %d, %v", len(list), len(records), err)
		}
		for i := range list {
			if text(t, list[i]) != text(t, records[i]) || list[i].Seq != records[i].Seq {
				t.Fatalf("record %d is %+v instead of %+v", i, list[i], records[i])
			}
		}
	})
}

// BenchmarkCatchUp is an edge with a long journal that connects to a hub: time an event.
func BenchmarkCatchUp(b *testing.B) {
	hub, edge := newNode(b, "hub"), newNode(b, "ams1")
	hub.listen()
	for left := b.N; left > 0; left -= 5000 {
		edge.make(min(left, 5000))
	}
	b.ResetTimer()
	edge.connect(hub.addr)
	for {
		if s := edge.uplink.Status(); s.State == StateConnected && s.Lacks == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkBatch is an event of ten readings on its way into a batch.
func BenchmarkBatch(b *testing.B) {
	e := &codec.Event{Relay: "web-0042", Time: 1795416970017829163}
	for i := range 10 {
		e.Collectors = append(e.Collectors, codec.Collector{Name: "stat_" + string(rune('0'+i)), Tags: []string{"service:web"}, Stats: []codec.Stat{{ID: "stat_" + string(rune('0'+i)), Value: float64(i) + 0.0042}}})
	}
	var batch batch
	sent := 0
	b.ReportAllocs()
	for i := range b.N {
		e.Time++
		if err := batch.add(&journal.Record{Seq: uint64(i + 1), Event: e}); err != nil {
			b.Fatal(err)
		}
		if batch.full() {
			sent += len(batch.take(1))
		}
	}
	b.ReportMetric(float64(sent)/float64(b.N), "B/event")
}
