package outside

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// Pulse lists and deletes the consumers of outside clients, durable ones too, even when no client
// is let in. It neither lists nor deletes its own consumers.
func TestConsumers(t *testing.T) {
	dir := t.TempDir()
	j := openOutside(t, dir, Options{})
	appendN(t, j, "web1", 0, 10)
	c, err := stream(t, client(t, j)).CreateConsumer(patient(t), jetstream.ConsumerConfig{Durable: "archive", AckPolicy: jetstream.AckExplicitPolicy,
		FilterSubject: "pulse.readings.>"})
	if err != nil {
		t.Fatal(err)
	}
	take(t, c, 4)
	closeJournal(t, j)
	j = openClosed(t, dir)
	reader := from1(t, j, 1)
	readN(t, reader, 10)
	list, err := j.Consumers(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if c := list[0]; c.Name != "archive" || !c.Durable || c.Unread != 6 || c.AckPending != 0 || c.MaxAckPending != 1000 || time.Duration(c.AckWait) != 30*time.Second ||
		len(c.Filters) != 1 || time.Duration(c.InactiveThreshold) != journal.DefaultRetention || time.Since(c.LastUsed) > time.Minute {
		t.Errorf("%+v", c)
	}
	for _, name := range []string{readers(t, j)[0], "nobody", "", "a.b"} {
		if err := j.DeleteConsumer(t.Context(), name); !errors.Is(err, ErrNoConsumer) {
			t.Errorf("deleting %q: %v", name, err)
		}
	}
	if err := j.DeleteConsumer(t.Context(), "archive"); err != nil {
		t.Error(err)
	}
	if list, err := j.Consumers(t.Context()); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	closeJournal(t, j)
	if _, err := j.Consumers(t.Context()); !errors.Is(err, journal.ErrUnavailable) {
		t.Error(err)
	}
}
