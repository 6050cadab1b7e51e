package outside

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

const outsidePassword = `a "token" of {people} $HOME 100% \ ü`

// client connects to j as another program would.
func client(tb testing.TB, j *opened, options ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := tryClient(j, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func tryClient(j *opened, options ...nats.Option) (*nats.Conn, error) {
	options = append([]nats.Option{nats.UserInfo("pulse", outsidePassword), nats.Timeout(10 * time.Second), nats.MaxReconnects(-1),
		nats.ReconnectWait(20 * time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, options...)
	return nats.Connect("nats://"+j.Addr().String(), options...)
}

// patient returns a context for a request that will be answered even if the machine is busy.
// Without a deadline a client waits only five seconds.
func patient(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func stream(tb testing.TB, nc *nats.Conn) jetstream.Stream {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := js.Stream(patient(tb), journal.StreamName)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// take fetches n messages and acknowledges them.
func take(tb testing.TB, c jetstream.Consumer, n int) (seqs []uint64) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for len(seqs) < n {
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d messages after 30s", len(seqs), n)
		}
		batch, err := c.Fetch(n-len(seqs), jetstream.FetchMaxWait(time.Second))
		if err != nil {
			continue // the server is being restarted
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				tb.Fatal(err)
			}
			if c.CachedInfo().Config.AckPolicy != jetstream.AckNonePolicy {
				if err := m.DoubleAck(tb.Context()); err != nil {
					tb.Fatalf("acknowledging %d: %v", meta.Sequence.Stream, err)
				}
			}
			seqs = append(seqs, meta.Sequence.Stream)
		}
	}
	return seqs
}

func TestOutsideOptions(t *testing.T) {
	for _, o := range []Options{
		{Address: "localhost", User: "pulse", Password: "x"},
		{Address: "localhost:nats", User: "pulse", Password: "x"},
		{Address: "localhost:70000", User: "pulse", Password: "x"},
		{Address: "localhost:0", User: "", Password: "x"},
		{Address: "localhost:0", User: "pulse"},
		{Address: "localhost:0", User: "pulse", Password: "$2a$10$abcdefghijklmnopqrstuv"},
		{Address: "localhost:0", User: "pulse", Password: "x", MaxConsumers: -1},
	} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if j := openClosed(t, t.TempDir()); j.Addr() != nil || j.Wanted() || j.WantedSubject("pulse.live.a.b") || j.Publish("pulse.live.a.b", nil) == nil {
		t.Error("clients are let in without an address")
	}
}

func TestOutsideAddressInUse(t *testing.T) {
	a := openOutside(t, t.TempDir(), Options{})
	_, err := New(t.Context(), Options{Address: a.Addr().String(), User: "pulse", Password: "x"})
	if !errors.Is(err, ErrAddress) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the error is %v", err)
	}
}

// If another program takes the address after it was checked, the journal is not opened.
func TestOutsideAddressTaken(t *testing.T) {
	c, err := New(t.Context(), Options{Address: "127.0.0.1:0", User: "pulse", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	c.address = taken.Addr().String()
	_, err = journal.Open(t.Context(), journal.Options{Dir: t.TempDir(), Outside: c})
	if !errors.Is(err, ErrAddress) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the error is %v", err)
	}
}

func TestOutsideReads(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	appendN(t, j, "web1", 0, 300)
	nc := client(t, j)
	s := stream(t, nc)
	if n := s.CachedInfo().State.Msgs; n != 300 {
		t.Errorf("it sees %d messages", n)
	}
	ctx := t.Context()

	ordered, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	it, err := ordered.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	for want := range uint64(300) {
		m, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != want+1 {
			t.Fatalf("%v %v instead of %d", meta, err, want+1)
		}
	}
	durable, err := s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "archive", AckPolicy: jetstream.AckExplicitPolicy,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 100, SampleFrequency: "0%", PauseUntil: new(time.Time)}) // as some clients send it
	if err != nil {
		t.Fatal(err)
	}
	if seqs := take(t, durable, 201); seqs[0] != 100 || seqs[200] != 300 {
		t.Errorf("from %d to %d", seqs[0], seqs[200])
	}
	if info, err := durable.Info(ctx); err != nil || info.AckFloor.Stream != 300 {
		t.Errorf("acknowledged up to %+v, %v", info, err)
	}
	plain, err := nc.SubscribeSync("pulse.readings.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	appendN(t, j, "web1", 300, 1)
	if m, err := plain.NextMsg(10 * time.Second); err != nil || m.Subject != "pulse.readings.web1" {
		t.Errorf("%v %v", m, err)
	}
	if m, err := s.GetMsg(ctx, 7); err != nil || m.Sequence != 7 {
		t.Errorf("%v %v", m, err)
	}
	if m, err := s.GetLastMsgForSubject(ctx, "pulse.readings.web1"); err != nil || m.Sequence != 301 {
		t.Errorf("%v %v", m, err)
	}
}
