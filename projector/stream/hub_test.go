package stream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nanopack/pulse/journal/codec"
	"github.com/nanopack/pulse/journal/journaltest"
	"github.com/nanopack/pulse/projector/stream"
	"github.com/nanopack/pulse/projector/stream/streamtest"
)

func one(relay string, stat string, v float64, tags ...string) *codec.Event {
	return journaltest.Event(relay, 1000, "c", tags, codec.Stat{ID: stat, Value: v})
}

// data returns the data of the message for the event that one makes.
func data(relay, stat string, v float64) string {
	return fmt.Sprintf(`{"relay":%q,"time":1000,"readings":[{"stat":%q,"value":%v,"tags":{"host":%q}}]}`, relay, stat, v, relay)
}

func TestHubMessage(t *testing.T) {
	h := newHub(t, stream.Options{}).begin(0)
	all := h.subscribe(stream.Request{})
	cpu := h.subscribe(stream.Request{Stat: "used", Filters: map[string][]string{"service": {"a", "b"}, "host": {"web1"}}})
	none := h.subscribe(stream.Request{Filters: map[string][]string{"service": {""}}})
	noneOrB := h.subscribe(stream.Request{Filters: map[string][]string{"service": {"", "b"}}})
	if ev := all.next(); ev.Retry != "1000" || ev.ID != "0" || ev.Data != "" {
		t.Fatalf("the greeting is %+v", ev)
	}
	h.apply(
		&codec.Event{Relay: "web1", Time: 42, Collectors: []codec.Collector{
			{Name: "cpu", Tags: []string{"service:a", "bare"}, Stats: []codec.Stat{{ID: "idle", Value: 1e-9}, {ID: "used", Value: 0.25}, {ID: "used", Value: 1e21}}},
			{Name: "ram", Stats: []codec.Stat{{ID: "used", Value: -3}}}}},
		&codec.Event{Relay: "web1", Time: 43},
		one("web2", "used", 5, "service:b"))
	const first = `{"relay":"web1","time":42,"readings":[`
	idle, used := `{"stat":"idle","value":1e-9,"tags":{"host":"web1","service":"a"}}`, `{"stat":"used","value":0.25,"tags":{"host":"web1","service":"a"}},{"stat":"used","value":1e+21,"tags":{"host":"web1","service":"a"}}`
	ram := `{"stat":"used","value":-3,"tags":{"host":"web1"}}`
	all.wantShown("readings", "1", first+idle+","+used+","+ram+"]}")
	all.wantShown("readings", "3", `{"relay":"web2","time":1000,"readings":[{"stat":"used","value":5,"tags":{"host":"web2","service":"b"}}]}`)
	cpu.wantShown("readings", "1", first+used+"]}")
	none.wantShown("readings", "1", first+ram+"]}")
	noneOrB.wantShown("readings", "1", first+ram+"]}")
	noneOrB.wantShown("readings", "3", `{"relay":"web2","time":1000,"readings":[{"stat":"used","value":5,"tags":{"host":"web2","service":"b"}}]}`)
	h.wantMetric(6, "sent_total")

	// The messages from the journal are the same.
	again := h.subscribe(stream.Request{Resume: true})
	again.wantShown("readings", "1", first+idle+","+used+","+ram+"]}")
	cpuAgain := h.subscribe(stream.Request{Resume: true, Stat: "used", Filters: map[string][]string{"service": {"a", "b"}, "host": {"web1"}}})
	cpuAgain.wantShown("readings", "1", first+used+"]}")
}

func TestHubMessagesOfEdges(t *testing.T) {
	h := newHub(t, stream.Options{}).begin(0)
	all := h.subscribe(stream.Request{})
	ams := h.subscribe(stream.Request{Filters: map[string][]string{"edge": {"ams1"}}})
	own := h.subscribe(stream.Request{Filters: map[string][]string{"edge": {""}}})
	of := one("web1", "used", 2, "edge:mine")
	of.Edge = "ams1"
	h.apply(one("web1", "used", 1), of)
	const second = `{"relay":"web1","time":1000,"edge":"ams1","readings":[{"stat":"used","value":2,"tags":{"edge":"ams1","host":"web1"}}]}`
	all.wantShown("readings", "1", data("web1", "used", 1))
	all.wantShown("readings", "2", second)
	ams.wantShown("readings", "2", second)
	own.wantShown("readings", "1", data("web1", "used", 1))
	again := h.subscribe(stream.Request{Resume: true})
	again.wantShown("readings", "1", data("web1", "used", 1))
	again.wantShown("readings", "2", second)
}

// Streams are cut at random bytes while readings flow, thousands of times. The ring is so small
// that the streams often fall out of it and change between journal and ring. Each stream sees every
// matching record once, in order.
func TestHubCuts(t *testing.T) {
	const cuts, followers = 1000, 3
	h := newHub(t, stream.Options{RingRecords: 40, Readers: 2}).start()
	stop := make(chan struct{})
	appended := make(chan struct{})
	go func() {
		defer close(appended)
		rng := rand.New(rand.NewPCG(7, 7))
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if n%97 == 0 {
				h.journal.AppendRelay(codec.RelayEvent{Relay: "r"})
			}
			e := one(fmt.Sprint("web", rng.IntN(4)), fmt.Sprint("s", rng.IntN(3)), float64(n), fmt.Sprint("zone:z", rng.IntN(2)))
			e.Past = n%13 == 0 // what comes late is not live
			h.journal.Append(e)
			if n%8 == 0 {
				time.Sleep(200 * time.Microsecond)
			}
		}
	}()
	requests := [followers]stream.Request{{}, {Stat: "s1"}, {Filters: map[string][]string{"host": {"web1", "web3"}, "zone": {"z1"}}}}
	var list [followers]*follower
	done := make(chan struct{}, followers)
	for i := range list {
		f := &follower{t: t, request: requests[i], seen: make(map[uint64]said)}
		list[i] = f
		s, err := h.Subscribe(stream.Request{Resume: true}) // gives followers that are cut at once an id
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		f.id = "0"
		go func() {
			defer func() { done <- struct{}{} }()
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range cuts / followers {
				f.session(h, rng, 0)
			}
		}()
	}
	for range followers {
		<-done
	}
	close(stop)
	<-appended
	if t.Failed() {
		return
	}
	for _, f := range list {
		f.session(h, rand.New(rand.NewPCG(2, 2)), h.journal.Last())
		f.check(h.journal, 0)
	}
	if h.metric("dropped_total", "slow") == 0 {
		t.Error("nobody fell out of the ring")
	}
	h.wantMetric(0, "clients")
	h.wantMetric(0, "readers")
	h.wantMetric(0, "ring_records")
	if n := h.journal.OpenReaders(); n != 1 {
		t.Errorf("%d readers are open, want the runner's", n)
	}
}

// session is one connection. It calls Next some times and cuts the stream at a random byte, or, if
// until is set, reads all messages up to that record.
func (f *follower) session(h *hubRig, rng *rand.Rand, until uint64) {
	s, err := h.Subscribe(f.resume())
	if err != nil {
		f.t.Error(err)
		return
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	last := uint64(0)
	if until > 0 {
		h.journal.Events(func(seq uint64, e *codec.Event) {
			if len(expect(e, f.request).Readings) > 0 {
				last = seq
			}
		})
	}
	var buf []byte
	for n := rng.IntN(6); until > 0 && f.last < last || until == 0 && n > 0; n-- {
		before := len(buf)
		if buf, err = s.Next(ctx, buf); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			f.t.Error(err)
			return
		}
		if until > 0 {
			for _, ev := range parse(f.t, buf[before:]) {
				f.take(ev)
			}
		} else if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		}
	}
	if until > 0 {
		return
	}
	events := streamtest.NewEvents(bytes.NewReader(buf[:rng.IntN(len(buf)+1)]))
	for ev, err := events.Next(); err == nil; ev, err = events.Next() {
		f.take(ev)
	}
}

func TestHubSlowClientIsDroppedAndResumes(t *testing.T) {
	h := newHub(t, stream.Options{RingRecords: 4}).begin(0)
	c := h.subscribe(stream.Request{})
	c.next()
	h.apply(one("a", "s", 1))
	c.wantShown("readings", "1", data("a", "s", 1))
	for i := 2; i <= 10; i++ {
		h.apply(one("a", "s", float64(i)))
	}
	c.wantShown("dropped", "1", `{"reason":"the client is too slow","resume":"Last-Event-ID 1"}`)
	c.wantEOF()
	h.wantMetric(1, "dropped_total", "slow")
	h.wantMetric(4, "ring_records")
	again := h.subscribe(stream.Request{Resume: true, After: 1})
	for i := 2; i <= 10; i++ {
		again.wantShown("readings", fmt.Sprint(i), data("a", "s", float64(i)))
	}
	h.apply(one("a", "s", 11))
	again.wantShown("readings", "11", data("a", "s", 11))
	if h.journal.OpenReaders() != 0 {
		t.Error("a stream that reads from the ring keeps a reader")
	}
}

func TestHubRingIsBoundedByBytes(t *testing.T) {
	h := newHub(t, stream.Options{RingBytes: 10_000}).begin(0)
	h.subscribe(stream.Request{})
	for i := range 1000 {
		h.apply(one("a", "s", float64(i), "tag:"+strings.Repeat("x", i%500)))
		if n := h.metric("ring_bytes"); n > 10_000 || i > 100 && n < 5000 {
			t.Fatalf("%d bytes after %d events", n, i)
		}
	}
	h.apply(one("a", "s", 1, "tag:"+strings.Repeat("x", 20_000)), one("b", "s", 2))
	h.wantMetric(1, "ring_records") // a record larger than the ring is the only one in the ring
}

// A client misses nothing if the ring advances before its first Next.
func TestHubFromNow(t *testing.T) {
	h := newHub(t, stream.Options{}).begin(0)
	h.apply(one("a", "s", 1))
	c := h.subscribe(stream.Request{})
	h.apply(one("a", "s", 2))
	if ev := c.next(); ev.ID != "1" {
		t.Fatalf("the greeting is %+v", ev)
	}
	c.wantShown("readings", "2", data("a", "s", 2))
}

func TestHubJournalCannotBeRead(t *testing.T) {
	h := newHub(t, stream.Options{}).begin(0)
	h.apply(one("a", "s", 1), one("a", "s", 2))
	c := h.subscribe(stream.Request{Resume: true, After: 1})
	h.journal.Fail(errors.New("broken"))
	c.wantShown("dropped", "1", `{"reason":"the journal cannot be read at the moment","resume":"Last-Event-ID 1"}`)
	c.wantEOF()
	ahead := h.subscribe(stream.Request{Resume: true, After: 9})
	ahead.wantShown("dropped", "9", `{"reason":"the journal cannot be read at the moment","resume":"Last-Event-ID 9"}`)
	h.wantMetric(2, "dropped_total", "unreadable")
	h.wantMetric(0, "readers")
	h.journal.Fail(nil)
	h.subscribe(stream.Request{Resume: true, After: 1}).wantShown("readings", "2", data("a", "s", 2))
}

func TestHubLimits(t *testing.T) {
	h := newHub(t, stream.Options{Clients: 2})
	if _, err := h.Subscribe(stream.Request{}); !errors.Is(err, stream.ErrNotBegun) {
		t.Fatalf("before the beginning: %v", err)
	}
	h.begin(0)
	a, _ := h.subscribe(stream.Request{}), h.subscribe(stream.Request{})
	if _, err := h.Subscribe(stream.Request{}); !errors.Is(err, stream.ErrTooManyClients) {
		t.Fatalf("a third: %v", err)
	}
	a.Close()
	a.Close()
	a.wantEOF()
	h.subscribe(stream.Request{})
	h.wantMetric(1, "refused_total")
	h.wantMetric(2, "clients")
	for _, o := range []stream.Options{{}, {Journal: h.journal, Clients: -1}, {Journal: h.journal, Heartbeat: -1}} {
		if _, err := stream.NewHub(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// The number of streams that read the journal at a time is limited. The other streams get a beat
// now and then, and later their turn.
func TestHubReadersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, stream.Options{Readers: 1, RingRecords: 8}).begin(0)
		for i := range 5000 {
			h.apply(one("a", "s", float64(i+1)))
		}
		first := h.subscribe(stream.Request{Resume: true})
		first.wantShown("readings", "1", data("a", "s", 1))
		second := h.subscribe(stream.Request{Resume: true})
		second.next()
		if ev := second.next(); ev.Comment != "beat" || ev.ID != "0" {
			t.Fatalf("the one that waits says %+v", ev)
		}
		h.wantMetric(1, "readers")
		// The first stream has had its turn, and gives it up as soon as another waits.
		got := make(chan streamtest.Event, 1)
		go func() {
			ev := second.shown()
			second.Close()
			got <- ev
		}()
		synctest.Wait()
		for i := 2; i <= 5000; i++ {
			first.wantShown("readings", fmt.Sprint(i), data("a", "s", float64(i)))
			if i == 4000 && len(got) == 0 {
				t.Fatal("the second one did not get its turn")
			}
		}
		if ev := <-got; ev.ID != "1" {
			t.Errorf("the second one gets %+v", ev)
		}
	})
}

func TestHubHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, stream.Options{RingRecords: 1 << 16}).begin(0)
		c := h.subscribe(stream.Request{Stat: "other"})
		c.next()
		began := time.Now()
		for i := range 10 {
			h.apply(one("a", "s", 1))
			if ev := c.next(); ev.Comment != "beat" || ev.ID != fmt.Sprint(i+1) || ev.Data != "" {
				t.Fatalf("%+v", ev)
			}
			if d := time.Since(began); d != time.Duration(i+1)*stream.DefaultHeartbeat {
				t.Fatalf("beat %d after %v", i, d)
			}
		}
		// After many records without a match the stream sends its position before the next beat.
		began = time.Now()
		for range 20_000 {
			h.apply(one("a", "s", 1))
		}
		if ev := c.next(); ev.Comment != "" || ev.ID != "20010" {
			t.Fatalf("%+v", ev)
		}
		// The same when the stream reads from the journal.
		c.Close()
		c = h.subscribe(stream.Request{Stat: "other", Resume: true})
		h.apply(one("a", "other", 1))
		ids := 0
		for ev := c.next(); ev.Data == ""; ev = c.next() {
			ids++
		}
		if ids != 1+20_010/8192 || time.Since(began) > time.Second {
			t.Errorf("%d ids, after %v", ids, time.Since(began))
		}
	})
}

// Messages that come within a few milliseconds of the last write are written together. The first
// message after a quiet time is written at once.
func TestHubLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, stream.Options{}).begin(0)
		c := h.subscribe(stream.Request{})
		c.next()
		go func() {
			for range 1000 {
				h.apply(one("a", "s", 1))
				time.Sleep(time.Millisecond)
			}
		}()
		n, nexts, began := 0, 0, time.Now()
		for n < 1000 {
			b, err := c.Next(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 && time.Since(began) != 0 {
				t.Errorf("the first reading took %v", time.Since(began))
			}
			n += len(parse(t, b))
			nexts++
		}
		if nexts < 150 || nexts > 250 {
			t.Errorf("%d writes for 1,000 events in a second", nexts)
		}
	})
}

func TestHubContextEnds(t *testing.T) {
	h := newHub(t, stream.Options{Readers: 1}).begin(0)
	h.apply(one("a", "s", 1), one("a", "s", 2))
	for _, q := range []stream.Request{{}, {Resume: true}} {
		s := h.subscribe(q)
		s.next()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Next(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// A message that would be too large comes without some of its readings, and says how many.
func TestHubMessagesAreBounded(t *testing.T) {
	e := journaltest.Event("a", 1, "c", []string{"tag:" + strings.Repeat("x", 60_000)})
	for i := range 100 {
		e.Collectors[0].Stats = append(e.Collectors[0].Stats, codec.Stat{ID: fmt.Sprint("s", i), Value: 1})
	}
	h := newHub(t, stream.Options{}).begin(0)
	for _, q := range []stream.Request{{}, {Filters: map[string][]string{"host": {"a"}}}} {
		ring := h.subscribe(q)
		h.apply(e)
		for _, c := range []*client{ring, h.subscribe(stream.Request{Filters: q.Filters, Resume: true, After: h.journal.Last() - 1})} {
			ev := c.shown()
			m := decode(t, ev.Data)
			if len(ev.Data) > 5<<20 || len(m.Readings) < 60 || len(m.Readings)+m.LeftOut != 100 {
				t.Errorf("%d bytes, %d readings, %d left out", len(ev.Data), len(m.Readings), m.LeftOut)
			}
		}
	}
	if h.metric("left_out_total") == 0 {
		t.Error("it is not counted")
	}
}

// Apply must not keep anything of the records: the journal in memory overwrites them afterwards.
func TestHubKeepsNothingOfRecords(t *testing.T) {
	h := newHub(t, stream.Options{}).start()
	c := h.subscribe(stream.Request{})
	c.next()
	for i := range 100 {
		h.journal.Append(one("a", fmt.Sprint("s", i), float64(i)))
	}
	eventually(t, "the ring to be filled", func() bool { return h.metric("ring_records") == 100 })
	for i := range 100 {
		c.wantShown("readings", fmt.Sprint(i+1), data("a", fmt.Sprint("s", i), float64(i)))
	}
}
