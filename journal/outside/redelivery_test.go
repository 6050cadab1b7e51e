package outside

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// A consumer's settings are bounded by the redeliveries that they cause while no event is
// acknowledged.
func TestOutsideRedeliveryBounds(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	s := stream(t, client(t, j))
	for _, refused := range []jetstream.ConsumerConfig{
		{Durable: "a", AckWait: 10 * time.Millisecond},
		{Durable: "a", AckWait: time.Second - 1},
		{Durable: "a", MaxAckPending: 10_000},
		{Durable: "a", MaxAckPending: -1},
		{Durable: "a", MaxDeliver: 5, BackOff: []time.Duration{10 * time.Millisecond, time.Second}},
		{Durable: "a", MaxDeliver: 100, BackOff: slices.Repeat([]time.Duration{time.Minute}, 50)},
	} {
		refused.AckPolicy = jetstream.AckExplicitPolicy
		if _, err := s.CreateConsumer(patient(t), refused); err == nil {
			t.Errorf("%+v was taken", refused)
		}
	}
	// As many consumers as are allowed, with the server's defaults.
	for i := range DefaultConsumers - 1 {
		if _, err := s.CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: fmt.Sprint("default-", i), AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
			t.Fatal(i, err)
		}
	}
	greedy := jetstream.ConsumerConfig{Durable: "greedy", AckPolicy: jetstream.AckAllPolicy, MaxAckPending: 1000, AckWait: time.Second / 2 * 2}
	if _, err := s.CreateConsumer(patient(t), greedy); err != nil {
		t.Fatal(err)
	}
	greedy.Durable = "default-1"
	greedy.AckPolicy = jetstream.AckExplicitPolicy
	if _, err := s.UpdateConsumer(patient(t), greedy); err == nil || !strings.Contains(err.Error(), "redeliveries a second") {
		t.Errorf("an update beyond the total is answered with %v", err)
	}
}

// Idle ephemeral consumers are removed when all consumers together cause too many redeliveries, as
// when there are too many consumers.
func TestOutsideRedeliveryTotal(t *testing.T) {
	j := openOutside(t, t.TempDir(), Options{})
	s := stream(t, client(t, j))
	costly := jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second, MaxAckPending: 1000, InactiveThreshold: time.Hour}
	for range 30 {
		if _, err := s.CreateConsumer(patient(t), costly); err != nil {
			t.Fatal(err)
		}
	}
	total := 0.0
	for _, c := range mustConsumers(t, j) {
		total += causes(c.Config)
	}
	if total != maxRedeliveries {
		t.Errorf("all together may cause %v redeliveries a second", total)
	}
}

// Consumers that were made under wider bounds, and have many unacknowledged events, are brought
// within the bounds by the next start. They keep their positions.
func TestOutsideOldConsumersAreBounded(t *testing.T) {
	dir := t.TempDir()
	j := openClosed(t, dir)
	appendMany(t, j, 3000)
	js := j.current().JetStream
	for i := range 20 {
		cfg := jetstream.ConsumerConfig{Durable: fmt.Sprint("old-", i), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour,
			MaxAckPending: 10_000, InactiveThreshold: time.Hour}
		c, err := js.CreateConsumer(patient(t), journal.StreamName, cfg)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := c.Fetch(2000, jetstream.FetchMaxWait(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range batch.Messages() {
			if n++; n <= 100 {
				if err := m.DoubleAck(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		cfg.AckWait = 10 * time.Millisecond // only now, so that no event came twice before
		if i%2 == 1 {
			cfg.BackOff, cfg.MaxDeliver = []time.Duration{10 * time.Millisecond, time.Minute}, 100
		}
		if _, err := js.UpdateConsumer(patient(t), journal.StreamName, cfg); err != nil {
			t.Fatal(err)
		}
	}
	closeJournal(t, j)

	j = openOutside(t, dir, Options{})
	total := 0.0
	list := mustConsumers(t, j)
	if len(list) != 20 {
		t.Fatalf("%d consumers are left", len(list))
	}
	for _, c := range list {
		total += causes(c.Config)
		if c.Config.AckWait < minAckWait || c.Config.MaxAckPending > maxAckPending || c.NumAckPending > maxAckPending ||
			len(c.Config.BackOff) > 0 && c.Config.BackOff[0] < minAckWait {
			t.Errorf("%s: %d pending, %+v", c.Name, c.NumAckPending, c.Config)
		}
	}
	if total > maxRedeliveries*1.01 {
		t.Errorf("all together may cause %v redeliveries a second", total)
	}
	c, err := stream(t, client(t, j)).Consumer(t.Context(), "old-0")
	if err != nil {
		t.Fatal(err)
	}
	if seqs := take(t, c, 200); seqs[0] != 101 || seqs[199] != 300 {
		t.Errorf("it goes on with %d to %d", seqs[0], seqs[199])
	}
}
