// Command subscribe prints the readings that a Pulse server collects: everything that it has stored
// and that this program has not acknowledged before, then what comes.
//
//	go run . nats://127.0.0.1:4222 secret
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: subscribe URL TOKEN")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(url, token string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	nc, err := nats.Connect(url, nats.UserInfo("pulse", token), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// The consumer keeps this program's place on the server, under this name.
	consumer, err := js.CreateOrUpdateConsumer(ctx, "PULSE", jetstream.ConsumerConfig{
		Durable: "example-go", AckPolicy: jetstream.AckExplicitPolicy,
		FilterSubjects: []string{"pulse.readings.>", "pulse.*.readings.>"}, // the second: of edges, at a hub
	})
	if err != nil {
		return err
	}
	var last uint64
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			log.Print(err)
			return
		}
		err = readings(m.Data(), func(r reading) {
			fmt.Println(meta.Sequence.Stream, r.edge, r.relay, r.time, r.tags, r.collector, r.stat, r.value)
		})
		if err != nil {
			log.Printf("%d %s %s: %v", meta.Sequence.Stream, m.Subject(), m.Data(), err)
		}
		last = meta.Sequence.Stream
		if err := m.Ack(); err != nil {
			log.Print(err)
		}
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	consuming.Drain()
	<-consuming.Closed()
	log.Printf("stopped behind event %d", last)
	return nil
}

// A reading is one number of an event.
type reading struct {
	edge, relay     string // edge is "" at a Pulse that is no hub, and for a hub's own relays
	time            int64  // ns since 1970 UTC
	tags            []string
	collector, stat string
	value           float64
}

// readings calls visit with the readings of an event. It takes both forms that are in a journal.
func readings(data []byte, visit func(reading)) error {
	var event struct {
		V          int
		Edge       string
		Relay      string
		Time       int64
		Collectors []struct { // version 1
			Name  string
			Tags  []string
			Stats map[string]float64
		}
		Stats [][2]json.RawMessage // version 2: tags, and collectors by name
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return err
	}
	if event.V > 2 {
		return fmt.Errorf("version %d is not known", event.V)
	}
	for _, c := range event.Collectors {
		for stat, value := range c.Stats {
			visit(reading{event.Edge, event.Relay, event.Time, c.Tags, c.Name, stat, value})
		}
	}
	for _, pair := range event.Stats {
		var tags []string
		var collectors map[string]json.RawMessage
		if err := json.Unmarshal(pair[0], &tags); err != nil {
			return err
		}
		if err := json.Unmarshal(pair[1], &collectors); err != nil {
			return err
		}
		for name, stats := range collectors {
			values := map[string]float64{}
			var value float64
			if err := json.Unmarshal(stats, &value); err == nil {
				values[name] = value // a number alone: the stat has the collector's name
			} else if err := json.Unmarshal(stats, &values); err != nil {
				return err
			}
			for stat, value := range values {
				visit(reading{event.Edge, event.Relay, event.Time, tags, name, stat, value})
			}
		}
	}
	return nil
}
