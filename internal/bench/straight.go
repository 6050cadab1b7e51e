package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/nanopack/pulse/journal/codec"
)

// straightPublishers is how many publish at the same time: while the batch of one is
// written, those of others come in. More make it no faster.
const straightPublishers = 4

// publishStraight publishes an encoded event, over and over, to a JetStream
// server in this process that fsyncs before it acknowledges, and returns how
// fast it does. Atomic batches are the only way in which it fsyncs for more than
// one message.
func publishStraight(ctx context.Context, dir string, event *codec.Event, data []byte, lasts time.Duration) (_ speed, err error) {
	s, err := server.NewServer(&server.Options{ServerName: "straight", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		SyncAlways: true, NoFastProducerStall: true, JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 64 << 20})
	if err != nil {
		return speed{}, err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		return speed{}, errors.New("the JetStream server is not ready after 10 s")
	}
	conns := make([]*nats.Conn, straightPublishers)
	for i := range conns {
		if conns[i], err = nats.Connect("", nats.InProcessServer(s)); err != nil {
			return speed{}, err
		}
		defer conns[i].Close()
	}
	stream, err := jetstream.New(conns[0])
	if err != nil {
		return speed{}, err
	}
	_, err = stream.CreateStream(ctx, jetstream.StreamConfig{Name: "STRAIGHT", Subjects: []string{"pulse.readings.*"}, Storage: jetstream.FileStorage, AllowAtomicPublish: true})
	if err != nil {
		return speed{}, err
	}
	var batches atomic.Int64
	readings := func() float64 { return float64(batches.Load() * straightBatch * int64(event.Readings())) }
	return measure(readings, func() error {
		began := time.Now()
		var group errgroup.Group
		for i, conn := range conns {
			group.Go(func() error {
				for n := 0; ctx.Err() == nil && time.Since(began) < lasts; n++ {
					id := strconv.Itoa(i) + "-" + strconv.Itoa(n)
					if err := publishBatch(ctx, conn, id, "pulse.readings."+event.Relay, data); err != nil {
						return err
					}
					batches.Add(1)
				}
				return ctx.Err()
			})
		}
		return group.Wait()
	})
}

// publishBatch returns when an atomic batch is durable.
func publishBatch(ctx context.Context, conn *nats.Conn, id, subject string, data []byte) error {
	message := func(sequence int) *nats.Msg {
		return &nats.Msg{Subject: subject, Data: data, Header: nats.Header{"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(sequence)}}}
	}
	for i := 1; i < straightBatch; i++ {
		if err := conn.PublishMsg(message(i)); err != nil {
			return err
		}
	}
	last := message(straightBatch)
	last.Header["Nats-Batch-Commit"] = []string{"1"}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := conn.RequestMsgWithContext(ctx, last)
	if err != nil {
		return err
	}
	var ack struct {
		Count int
		Error *struct{ Description string }
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return err
	}
	if ack.Error != nil || ack.Count != straightBatch {
		return fmt.Errorf("JetStream answered a batch of %d with %s", straightBatch, answer.Data)
	}
	return nil
}
