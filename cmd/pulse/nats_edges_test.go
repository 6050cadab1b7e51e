package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/internal/freeport"
	"github.com/nanopack/pulse/internal/selfsigned"
	"github.com/nanopack/pulse/journal/codec"
)

// TestNATSClientOfAHub reads the events of two edges at their hub as other programs do: live readings of
// both, and the journal of one. The relay, which is the process itself, has the same id at all three.
func TestNATSClientOfAHub(t *testing.T) {
	link, cert, key := freeport.Of(t), filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := selfsigned.Make(cert, key, "hub", link); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{}
	start := func(name string, args ...string) {
		addresses[name] = freeport.Of(t)
		startServer(t, t.TempDir(), append(args, "--host-stats", "-p", "1", "--token", "a token", "--nats-listen-address", addresses[name])...)
	}
	start("hub", "--hub-listen-address", link, "--edges", "ams1=token-of-ams1,fra1=token-of-fra1", "--tls-cert", cert, "--tls-key", key)
	for _, edge := range []string{"ams1", "fra1"} {
		start(edge, "--edge-name", edge, "--hub-address", link, "--hub-token", "token-of-"+edge, "--hub-ca", cert)
	}

	atHub, hub := natsStream(t, addresses["hub"])
	live, err := atHub.SubscribeSync("pulse.*.live.*.cpu_used")
	if err != nil {
		t.Fatal(err)
	}
	for heard := map[string]bool{}; len(heard) < 2; {
		m, err := live.NextMsg(time.Minute)
		if err != nil {
			t.Fatalf("heard of %v: %v", heard, err)
		}
		var reading struct{ Tags map[string]string }
		edge := strings.Split(m.Subject, ".")[1]
		if err := json.Unmarshal(m.Data, &reading); err != nil || reading.Tags["edge"] != edge || reading.Tags["host"] == "" {
			t.Fatalf("%s: %s, %v", m.Subject, m.Data, err)
		}
		heard[edge] = true
	}

	consumer, err := hub.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{"pulse.ams1.readings.>"}})
	if err != nil {
		t.Fatal(err)
	}
	_, edge := natsStream(t, addresses["ams1"])
	var decoder codec.Decoder
	last := int64(0)
	for range 3 {
		m, err := consumer.Next(jetstream.FetchMaxWait(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		var at, there codec.Event
		if err := decoder.DecodeEvent(m.Data(), &at); err != nil || at.Edge != "ams1" || at.Origin <= last {
			t.Fatalf("after %d: %s: %s, %v", last, m.Subject(), m.Data(), err)
		}
		last = at.Origin
		original, err := edge.GetMsg(t.Context(), uint64(last))
		if err != nil {
			t.Fatal(err)
		}
		if err := decoder.DecodeEvent(original.Data, &there); err != nil || there.Edge != "" || there.Relay != at.Relay || there.Time != at.Time || there.Readings() != at.Readings() {
			t.Errorf("the hub has %s, and the edge %s, %v", m.Data(), original.Data, err)
		}
	}
	if err := atHub.Publish("pulse.ams1.readings.x", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := atHub.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := atHub.LastError(); err == nil || !strings.Contains(err.Error(), "Permissions Violation") {
		t.Errorf("publishing as an edge: %v", err)
	}
}

// natsStream connects to a Pulse as another program does.
func natsStream(t *testing.T, address string) (*nats.Conn, jetstream.Stream) {
	t.Helper()
	conn, err := nats.Connect(address, nats.UserInfo("pulse", "a token"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "PULSE")
	if err != nil {
		t.Fatal(err)
	}
	return conn, stream
}
