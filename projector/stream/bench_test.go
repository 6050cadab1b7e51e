package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nanopack/pulse/journal"
	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
)

func begunHub(t testing.TB, o Options) *Hub {
	t.Helper()
	o.Journal = projectortest.NewMemory()
	h, err := NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Begin(t.Context(), projector.Origin{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func subscribed(t testing.TB, h *Hub, q Request) *Subscription {
	t.Helper()
	s, err := h.Subscribe(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// round numbers the records, applies them, and reads them from every stream.
func round(t testing.TB, h *Hub, records []journal.Record, seq *uint64, buf []byte, streams ...*Subscription) []byte {
	for i := range records {
		*seq++
		records[i].Seq = *seq
	}
	if _, err := h.Apply(context.Background(), records); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		for s.pos < *seq {
			s.lingerTo = time.Time{} // do not linger, because the test does not measure time
			var err error
			if buf, err = s.Next(context.Background(), buf[:0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return buf
}

func TestHubWithoutClientsCostsNothing(t *testing.T) {
	h := begunHub(t, Options{})
	records := projectortest.Fleet(1000)
	seq := uint64(0)
	apply := func() { round(t, h, records, &seq, nil) }
	if n := testing.AllocsPerRun(100, apply); n != 0 {
		t.Errorf("%v allocations for 1,000 records that nobody listens to", n)
	}
	s := subscribed(t, h, Request{})
	apply()
	s.Close()
	apply()
	if n := testing.AllocsPerRun(100, apply); n != 0 || h.encoder != nil || h.ring.Len() != 0 || h.ring.bytes != 0 {
		t.Errorf("after the last one left: %v allocations, encoder %p, %d entries", n, h.encoder, h.ring.Len())
	}
}

// The memory for messages is allocated in pieces of 64 KiB; nothing else is allocated.
func TestHubSteadyStateAllocations(t *testing.T) {
	h := begunHub(t, Options{RingRecords: 2000})
	all, some := subscribed(t, h, Request{}), subscribed(t, h, Request{Stat: "stat_3"})
	records := projectortest.Fleet(1000)
	seq, buf := uint64(0), make([]byte, 0, 2<<20)
	run := func() { buf = round(t, h, records, &seq, buf, all, some) }
	for range 5 {
		run()
	}
	if n := testing.AllocsPerRun(50, run); n > 40 {
		t.Errorf("%v allocations for 10,000 readings read by two", n)
	}
}

// FuzzHubMessage decodes messages with encoding/json and compares them with the event.
func FuzzHubMessage(f *testing.F) {
	f.Add("web1", "cpu_used", "service:web", 0.25)
	f.Add("a\nb\r\n\n", "\x00\u2028\"\\", "k\xff:v\xc3\x28\u2029", math.SmallestNonzeroFloat64)
	f.Add("", "", "", 1e21)
	f.Add("data: x", "</script>", "k:\x7f", -1e-7)
	f.Fuzz(func(t *testing.T, relay, stat, tag string, v float64) {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return
		}
		e := &codec.Event{Relay: relay, Time: 7, Collectors: []codec.Collector{{Tags: []string{tag}, Stats: []codec.Stat{{ID: stat, Value: v}}}}}
		entry, ok := newEncoder(&metrics{}).encode(9, e)
		matching, _ := appendSelected(nil, &entry, &matcher{})
		selected, _ := appendSelected(nil, &entry, &matcher{stat: stat})
		if !ok || string(matching) != string(entry.data) || stat != "" && string(selected) != string(matching) {
			t.Fatalf("%q\n%q\n%q", entry.data, matching, selected)
		}
		text, has := strings.CutPrefix(string(matching), "id: 9\nevent: readings\ndata: ")
		text, ends := strings.CutSuffix(text, "\n\n")
		if !has || !ends || strings.ContainsAny(text, "\n\r") || !utf8.ValidString(text) {
			t.Fatalf("%q", matching)
		}
		var got struct {
			Relay    string
			Readings []struct {
				Stat  string
				Value json.RawMessage
				Tags  map[string]string
			}
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Readings) != 1 {
			t.Fatalf("%v in %q", err, text)
		}
		same := func(got, want string) {
			t.Helper()
			b, _ := json.Marshal(want) // invalid UTF-8 becomes U+FFFD
			var w string
			if err := json.Unmarshal(b, &w); err != nil || got != w {
				t.Fatalf("%q became %q", want, got)
			}
		}
		r := got.Readings[0]
		same(got.Relay, relay)
		same(r.Stat, stat)
		same(r.Tags["host"], relay)
		if key, value, ok := strings.Cut(tag, ":"); ok && key != "" && value != "" && key != "time" && key != "host" && utf8.ValidString(key) {
			same(r.Tags[key], value)
		}
		if want, _ := json.Marshal(v); string(r.Value) != string(want) {
			t.Fatalf("%s, want %s", r.Value, want)
		}
	})
}

func BenchmarkHubNobody(b *testing.B) {
	h := begunHub(b, Options{})
	for _, size := range []int{1, 1000} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			records := projectortest.Fleet(size)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Apply(b.Context(), records); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/record")
		})
	}
}

// BenchmarkHub measures the cost of a message for the hub and its streams, without HTTP.
func BenchmarkHub(b *testing.B) {
	for _, tt := range []struct {
		name    string
		clients int
		request Request
	}{{"clients=1", 1, Request{}}, {"clients=100", 100, Request{}}, {"clients=1/stat", 1, Request{Stat: "stat_3"}},
		{"clients=1/filter", 1, Request{Filters: map[string][]string{"host": {"host3", "host4"}}}}} {
		b.Run(tt.name, func(b *testing.B) {
			h := begunHub(b, Options{RingRecords: 4000})
			var streams []*Subscription
			for range tt.clients {
				streams = append(streams, subscribed(b, h, tt.request))
			}
			records := projectortest.Fleet(100)
			seq, n, buf := uint64(0), 0, make([]byte, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				buf = round(b, h, records, &seq, buf, streams...)
				n += len(records) * tt.clients
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
		})
	}
}
