package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/journal/codec"
)

// TestNATSClient reads as other programs do: single live readings, and the journal from its
// beginning. This needs the token.
func TestNATSClient(t *testing.T) {
	address := freeport.Of(t)
	startServer(t, t.TempDir(), "--influx-address", "embedded", "--host-stats", "-p", "1", "--token", "a token", "--nats-listen-address", address)

	if _, err := nats.Connect(address, nats.UserInfo("pulse", "secret")); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("with a wrong token: %v", err)
	}
	conn, err := nats.Connect(address, nats.UserInfo("pulse", "a token"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	live, err := conn.SubscribeSync("pulse.live.*.cpu_used")
	if err != nil {
		t.Fatal(err)
	}
	message, err := live.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var reading struct {
		Time  int64
		Value *float64
		Tags  map[string]string
	}
	if err := json.Unmarshal(message.Data, &reading); err != nil || reading.Value == nil || reading.Tags["host"] == "" ||
		time.Since(time.Unix(0, reading.Time)).Abs() > 5*time.Minute {
		t.Errorf("a live reading: %s, %v", message.Data, err)
	}

	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), "PULSE", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"pulse.readings.>"}})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var decoder codec.Decoder
	var event codec.Event
	if err := decoder.DecodeEvent(stored.Data(), &event); err != nil || event.Relay == "" || event.Readings() == 0 {
		t.Errorf("the journal's first event: %s, %v", stored.Data(), err)
	}
	if err := conn.Publish("pulse.readings.x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := conn.LastError(); err == nil || !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("publishing into the journal: %v", err)
	}
}
