package mist

import (
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nanopack/pulse/projector/projectortest"
)

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	m, err := New(Options{Address: "mist:1445", MaxAge: time.Hour, Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	records := projectortest.Fleet(100)
	batch, buf := make([]message, 1000), make([]byte, 0, 1<<20)
	round := func() {
		if _, err := m.Apply(t.Context(), records); err != nil {
			t.Fatal(err)
		}
		n, _ := m.queue.pop(batch, 0)
		buf = buf[:0]
		for i := range batch[:n] {
			buf = appendMessage(buf, &batch[i], shortest)
		}
		if n != 1000 {
			t.Fatalf("%d messages", n)
		}
	}
	round()
	if n := testing.AllocsPerRun(50, round); n != 0 {
		t.Fatalf("%v allocations for 1,000 readings", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	t := newTopics()
	records := projectortest.Fleet(1000)
	var messages []message
	for i := range records {
		messages = t.appendMessages(messages, records[i].Event)
	}
	b.Run("pulse", func(b *testing.B) {
		buf := make([]byte, 0, 512)
		n := 0
		for b.Loop() {
			buf = appendMessage(buf[:0], &messages[n%len(messages)], shortest)
			n++
		}
		b.SetBytes(int64(len(buf)))
		b.ReportAllocs()
	})
	b.Run("encoding_json", func(b *testing.B) {
		type msg struct {
			Command string   `json:"command"`
			Tags    []string `json:"tags"`
			Data    string   `json:"data"`
		}
		enc := json.NewEncoder(io.Discard)
		v := msg{"publish", []string{"host:host0", "metrics", "service:web1", "stat_0"}, "0.7630"}
		for b.Loop() {
			if err := enc.Encode(&v); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
	})
}

// BenchmarkApply measures the cost of a reading for the runner's goroutine while nobody reads the
// queue.
func BenchmarkApply(b *testing.B) {
	m, err := New(Options{Address: "mist:1445", MaxAge: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	records := projectortest.Fleet(10_000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := 0; i < len(records); i += 1000 {
			if _, err := m.Apply(b.Context(), records[i:i+1000]); err != nil {
				b.Fatal(err)
			}
		}
		n += 100_000
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/reading")
}

// BenchmarkPublish sends over TCP to a mist that only counts bytes.
func BenchmarkPublish(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, `{"data":"pong"}`); err != nil {
			b.Error(err)
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
	}()
	m, err := New(Options{Address: l.Addr().String(), MaxAge: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Start(); err != nil {
		b.Fatal(err)
	}
	records := projectortest.Fleet(10_000)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Apply(b.Context(), records); err != nil {
			b.Fatal(err)
		}
		for n += 100_000; m.published.Load() < n; {
			time.Sleep(50 * time.Microsecond)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "readings/s")
	if s := m.Status(); s.Dropped > 0 {
		b.Fatalf("status %+v", s)
	}
	_ = m.Stop(b.Context())
	_ = l.Close()
	<-served
}
