package query

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector"
	"github.com/nanopack/pulse/projector/projectortest"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/projector/stream/streamtest"
)

// hubLive adapts the hub to the interface of the API.
type hubLive struct{ *stream.Hub }

func (h hubLive) Subscribe(q LiveRequest) (LiveStream, error) {
	s, err := h.Hub.Subscribe(stream.Request(q))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// hubWorld is a server with a hub over a journal in memory.
func hubWorld(t testing.TB, o stream.Options, change func(*Options)) (*world, *projectortest.Memory) {
	t.Helper()
	memory := projectortest.NewMemory()
	o.Journal = memory
	hub, err := stream.NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	runner, err := projector.NewRunner(projector.RunnerOptions{Projection: hub, Journal: memory, Start: projector.FromEnd()})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(runner.Stop)
	w := newWorld(t, func(o *Options) {
		o.Now, o.Live = time.Now, hubLive{hub}
		if change != nil {
			change(o)
		}
	})
	return w, memory
}

// reader is a client whose connection is cut again and again. It notes everything that it receives.
type reader struct {
	w    *world
	path string
	rng  *rand.Rand
	id   string
	seen map[string]string // data by id
	last uint64
	cuts int
}

// connect opens the stream at the position where the last one ended.
func (r *reader) connect(ctx context.Context) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.w.url+r.path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(tokenName, testToken)
	request.Header.Set("Last-Event-ID", r.id)
	response, err := r.w.client.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		err = fmt.Errorf("status %d", response.StatusCode)
	}
	return response, err
}

func (r *reader) take(ev streamtest.Event) error {
	if ev.ID != "" {
		r.id = ev.ID
	}
	switch ev.Type {
	case "readings":
		seq, err := strconv.ParseUint(ev.ID, 10, 64)
		if err != nil || seq <= r.last {
			return fmt.Errorf("record %q came after %d", ev.ID, r.last)
		}
		r.last = seq
		r.seen[ev.ID] = ev.Data
	case "gap":
		return fmt.Errorf("a gap: %s", ev.Data)
	}
	return nil
}

// session reads a random number of bytes, and then cuts the connection.
func (r *reader) session() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	response, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	events := streamtest.NewEvents(io.LimitReader(response.Body, r.rng.Int64N(1500)))
	for {
		ev, err := events.Next()
		if err != nil {
			r.cuts++
			return ctx.Err()
		}
		if err := r.take(ev); err != nil {
			return err
		}
	}
}

// until reads until it has received the record seq.
func (r *reader) until(seq uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for r.last < seq {
		response, err := r.connect(ctx)
		if err != nil {
			return err
		}
		events := streamtest.NewEvents(response.Body)
		for ev, err := events.Next(); r.last < seq && err == nil; ev, err = events.Next() {
			if err := r.take(ev); err != nil {
				return err
			}
			if r.last >= seq {
				break
			}
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

type liveMessage struct {
	Relay    string
	Time     int64
	Readings []liveReading
}

type liveReading struct {
	Stat  string
	Value float64
	Tags  map[string]string
}

// Connections are cut at random bytes, 1,000 of them, while readings flow. Each client receives
// exactly the journal: every record that matches, once, in order.
func TestLiveCuts(t *testing.T) {
	t.Run("http", func(t *testing.T) {
		w, memory := hubWorld(t, stream.Options{RingRecords: 200}, nil)
		w.Start()
		cutAndCompare(t, w, memory, 903)
	})
	t.Run("http2", func(t *testing.T) {
		cert := httptest.NewUnstartedServer(nil)
		cert.StartTLS()
		defer cert.Close()
		w, memory := hubWorld(t, stream.Options{}, func(o *Options) { o.TLS = &tls.Config{Certificates: cert.TLS.Certificates} })
		w.http2(t, cert)
		w.Start()
		cutAndCompare(t, w, memory, 100)
	})
}

func cutAndCompare(t *testing.T, w *world, memory *projectortest.Memory, cuts int) {
	stop := make(chan struct{})
	var flowing, reading sync.WaitGroup
	flowing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
			}
			memory.Append(journaltest.Event(fmt.Sprint("web", n%5), int64(n), "c", []string{fmt.Sprint("zone:z", n%2)},
				codec.Stat{ID: "cpu", Value: float64(n) / 7}, codec.Stat{ID: "ram", Value: float64(n)}))
		}
	})
	readers := []*reader{{path: "/live"}, {path: "/live/cpu?host=web1&host=web2"}, {path: "/live/ram?zone=z1"}}
	for i, r := range readers {
		r.w, r.id, r.seen, r.rng = w, "0", make(map[string]string), rand.New(rand.NewPCG(1, uint64(i)))
		reading.Go(func() {
			for range cuts / len(readers) {
				if err := r.session(); err != nil {
					t.Errorf("%s, behind %s: %v", r.path, r.id, err)
					return
				}
			}
		})
	}
	reading.Wait()
	close(stop)
	flowing.Wait()
	if t.Failed() {
		return
	}
	for i, r := range readers {
		want := make(map[string]liveMessage)
		last := uint64(0)
		memory.Events(func(seq uint64, e *codec.Event) {
			tags := map[string]string{"host": e.Relay, "zone": e.Collectors[0].Tags[0][len("zone:"):]}
			m := liveMessage{Relay: e.Relay, Time: e.Time}
			for _, s := range e.Collectors[0].Stats {
				if i == 0 || i == 1 && s.ID == "cpu" && (e.Relay == "web1" || e.Relay == "web2") || i == 2 && s.ID == "ram" && tags["zone"] == "z1" {
					m.Readings = append(m.Readings, liveReading{s.ID, s.Value, tags})
				}
			}
			if m.Readings != nil {
				want[fmt.Sprint(seq)], last = m, seq
			}
		})
		if err := r.until(last); err != nil {
			t.Fatalf("%s, behind %s of %d: %v", r.path, r.id, last, err)
		}
		if len(r.seen) != len(want) {
			t.Errorf("%s: %d messages, want %d", r.path, len(r.seen), len(want))
		}
		for id, m := range want {
			var got liveMessage
			if err := json.Unmarshal([]byte(r.seen[id]), &got); err != nil || !reflect.DeepEqual(got, m) {
				t.Fatalf("%s, record %s: %q, %v, want %+v", r.path, id, r.seen[id], err, m)
			}
		}
		t.Logf("%s: %d cuts, %d messages of %d records", r.path, r.cuts, len(r.seen), memory.Last())
	}
}

// A reading that was appended arrives at the client within milliseconds. The server announces its
// stop.
func TestLiveOverAHub(t *testing.T) {
	w, memory := hubWorld(t, stream.Options{Clients: 2}, nil)
	w.Start()
	first, second := listen(t, w, "/live", "X-AUTH-TOKEN: "+testToken), listen(t, w, "/live/nothing", "X-AUTH-TOKEN: "+testToken)
	w.get(t, "/live").contains(t, http.StatusServiceUnavailable, "too many clients")
	events := streamtest.NewEvents(first.Body)
	if ev, err := events.Next(); err != nil || ev.ID != "0" || ev.Retry == "" {
		t.Fatalf("%+v, %v", ev, err)
	}
	memory.Append(journaltest.Event("web1", 7, "cpu", []string{"service:web1"}, codec.Stat{ID: "cpu_used", Value: 0.25}))
	want := streamtest.Event{Type: "readings", ID: "1",
		Data: `{"relay":"web1","time":7,"readings":[{"stat":"cpu_used","value":0.25,"tags":{"host":"web1","service":"web1"}}]}`}
	if ev, err := events.Next(); err != nil || ev != want {
		t.Fatalf("%+v, %v", ev, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx) }()
	if ev, err := events.Next(); err != nil || ev.Type != "stopping" {
		t.Errorf("at the stop: %+v, %v", ev, err)
	}
	if rest, err := io.ReadAll(second.Body); err != nil || !bytes.HasSuffix(rest, []byte(stopping)) {
		t.Errorf("at the stop: %q, %v", rest, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("streams held the stop up: %v", err)
	}
}

// BenchmarkLive measures the CPU time of server and clients together, by message and by reading. In
// one case 100 clients receive everything, at 1,000 events a second with 10 readings each. In the
// other a client receives one stat, at 10,000 readings a second.
func BenchmarkLive(b *testing.B) {
	for _, tt := range []struct {
		name    string
		path    string
		clients int
	}{{"clients=100", "/live", 100}, {"clients=1/stat", "/live/stat_3", 1}} {
		b.Run(tt.name, func(b *testing.B) {
			w, memory := hubWorld(b, stream.Options{}, nil)
			w.Start()
			var reading sync.WaitGroup
			const events = 2000
			for range tt.clients {
				response, err := w.client.Do(tokenRequest(b, w, tt.path))
				if err != nil {
					b.Fatal(err)
				}
				reading.Go(func() {
					defer response.Body.Close()
					// The client does not parse what it reads.
					last, buf, got := fmt.Appendf(nil, "id: %d\n", events), make([]byte, 64<<10), []byte(nil)
					for !bytes.Contains(got, last) {
						n, err := response.Body.Read(buf)
						if err != nil {
							b.Error(err)
							return
						}
						got = append(got[max(0, len(got)-len(last)):], buf[:n]...)
					}
				})
			}
			e := &codec.Event{Relay: "web1", Collectors: []codec.Collector{{Name: "cpu", Tags: []string{"service:web1"}}}}
			for s := range 10 {
				e.Collectors[0].Stats = append(e.Collectors[0].Stats, codec.Stat{ID: fmt.Sprint("stat_", s), Value: float64(s) / 7})
			}
			used := cpuTime(b)
			begin := time.Now()
			for n := range events {
				if d := time.Until(begin.Add(time.Duration(n) * time.Millisecond)); d > 0 {
					time.Sleep(d)
				}
				e.Time = time.Now().UnixNano()
				memory.Append(e)
			}
			reading.Wait()
			took := time.Since(begin)
			used = cpuTime(b) - used
			messages := float64(events * tt.clients)
			b.ReportMetric(float64(used.Microseconds())/messages, "cpu-µs/message")
			b.ReportMetric(100*used.Seconds()/took.Seconds(), "cpu-%")
			b.ReportMetric(messages/took.Seconds(), "messages/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime returns the processor time that this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
