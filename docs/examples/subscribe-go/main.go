// Command subscribe prints what a Pulse server collects: everything that it has stored and that
// this program has not acknowledged before, then what comes.
//
//	go run . nats://127.0.0.1:4222 secret
package main

import (
	"context"
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
		Durable: "example-go", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "pulse.readings.>",
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
		fmt.Printf("%d %s %s\n", meta.Sequence.Stream, m.Subject(), m.Data())
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
