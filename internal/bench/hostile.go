package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// hostileCommand is the first argument of the process that is a hostile client.
const hostileCommand = "hostile"

// A hostile is one kind of request that a NATS client with the password repeats without end.
type hostile struct {
	name, what string
	do         func(ctx context.Context, address string) error // returns when the client has begun
}

const (
	hostileConns     = 64  // the server's limit
	hostileSubs      = 256 // of each connection
	hostileConsumers = 20
)

var hostiles = []hostile{
	{"nobody", "nobody (a core busy elsewhere)", func(ctx context.Context, _ string) error { go spin(ctx); return nil }},
	{"nak", "20 consumers, every message refused (-NAK)", func(ctx context.Context, a string) error {
		return pulls(ctx, a, jetstream.ConsumerConfig{AckWait: 2 * time.Second}, 1000, 0, "-NAK")
	}},
	{"term", "20 consumers, every message acknowledged, again and again", func(ctx context.Context, a string) error {
		return pulls(ctx, a, jetstream.ConsumerConfig{AckWait: 2 * time.Second}, 1000, 0, "+ACK")
	}},
	{"expires", "20 consumers, pulls of 5,000 that end after 1 ms", func(ctx context.Context, a string) error {
		return pulls(ctx, a, jetstream.ConsumerConfig{AckWait: 2 * time.Second}, 5000, time.Millisecond, "")
	}},
	{"single", "20 consumers, pulls of 1 that end after 1 ms", func(ctx context.Context, a string) error {
		return pulls(ctx, a, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy}, 1, time.Millisecond, "")
	}},
	{"connections", "64 connections, each hears of every event", func(ctx context.Context, a string) error { return hear(ctx, a, hostileConns, 1, "pulse.readings.>") }},
	{"fanout", "256 subscriptions to everything, one connection", func(ctx context.Context, a string) error { return hear(ctx, a, 1, hostileSubs, "pulse.readings.>") }},
	{"fanouts", "256 subscriptions to everything, 64 connections", func(ctx context.Context, a string) error {
		return hear(ctx, a, hostileConns, hostileSubs, "pulse.readings.>")
	}},
	{"live", "256 subscriptions to all that is live, 64 connections", func(ctx context.Context, a string) error {
		return hear(ctx, a, hostileConns, hostileSubs, "pulse.live.>")
	}},
	{"inboxes", "256 subscriptions to all answers, 40 connections, and pulls", func(ctx context.Context, a string) error {
		if err := hear(ctx, a, hostileConns-hostileConsumers-4, hostileSubs, "_INBOX.>"); err != nil {
			return err
		}
		return pulls(ctx, a, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy}, 1000, 0, "")
	}},
	{"churn", "connects and leaves without end", churn},
	{"info", "stream info without end", asks("$JS.API.STREAM.INFO.PULSE", `{"subjects_filter":">"}`, 0)},
	{"list", "consumer list, names and info without end", asks("$JS.API.CONSUMER.LIST.PULSE", "", 0)},
	{"get", "direct gets of 1,000 without end", asks("$JS.API.DIRECT.GET.PULSE", `{"seq":1,"batch":1000}`, 0)},
	{"nothing", "direct gets that search the journal in vain", asks("$JS.API.DIRECT.GET.PULSE", `{"seq":1,"next_by_subj":"pulse.relays.nobody"}`, 0)},
	{"multi", "direct gets of the newest of every subject", asks("$JS.API.DIRECT.GET.PULSE", `{"multi_last":["pulse.readings.>"]}`, 0)},
	{"msg", "message gets without end", asks("$JS.API.STREAM.MSG.GET.PULSE", `{"seq":1,"next_by_subj":"pulse.relays.nobody"}`, 0)},
	{"create", "consumers are made and deleted without end", create},
	{"publish", "25,000 acknowledgements a second of nothing", asks("$JS.ACK.PULSE.nobody.1.1.1.1.0", "+ACK", 25_000)},
	{"flood", "acknowledgements as fast as it can", asks("$JS.ACK.PULSE.nobody.1.1.1.1.0", "+ACK", 0)},
	{"unknown", "20,000 requests a second that are not offered", asks("$JS.API.STREAM.DELETE.PULSE", "", 20_000)},
}

// runHostile runs the hostile process. The process ends when it is killed.
func runHostile(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: hostile KIND ADDRESS")
	}
	for _, h := range hostiles {
		if h.name != args[0] {
			continue
		}
		if err := admitted(ctx, args[1]); err != nil {
			return err
		}
		if err := h.do(ctx, args[1]); err != nil {
			fmt.Fprintln(os.Stderr, "· the client was thrown out on its way in:", err)
		}
		fmt.Println("ready")
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("there is no hostile client %q", args[0])
}

// admitted waits until the server accepts a hostile client: it may still refuse one because it
// disconnected an earlier one.
func admitted(ctx context.Context, address string) error {
	for began := time.Now(); ; {
		nc, err := hostileConn(address)
		if err == nil {
			nc.Close()
			return nil
		}
		if time.Since(began) > 2*time.Minute || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Second)
	}
}

func spin(ctx context.Context) {
	for ctx.Err() == nil { //nolint:revive // that is all it does
	}
}

func hostileConn(address string) (*nats.Conn, error) {
	return nats.Connect(address, nats.UserInfo("pulse", "secret"), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.Timeout(10*time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// pulls runs many consumers, each with its own connection. The consumers pull without end and
// answer every message in the same way.
func pulls(ctx context.Context, address string, config jetstream.ConsumerConfig, batch int, expires time.Duration, answer string) error {
	for i := range hostileConsumers {
		nc, err := hostileConn(address)
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		config.Name, config.InactiveThreshold = fmt.Sprintf("hostile-%d-%d", time.Now().UnixNano(), i), time.Hour
		if config.AckPolicy == jetstream.AckExplicitPolicy {
			config.MaxAckPending = 1000
		}
		if _, err := js.CreateConsumer(ctx, "PULSE", config); err != nil {
			return err
		}
		again := make(chan struct{}, 1)
		inbox := nc.NewInbox()
		var mu sync.Mutex
		last := ""
		if _, err := nc.Subscribe(inbox, func(m *nats.Msg) {
			if m.Header.Get("Status") != "" {
				select {
				case again <- struct{}{}:
				default:
				}
				return
			}
			if answer != "" {
				mu.Lock()
				last = m.Reply
				mu.Unlock()
				_ = nc.Publish(m.Reply, []byte(answer)) // it floods
			}
		}); err != nil {
			return err
		}
		subject := "$JS.API.CONSUMER.MSG.NEXT.PULSE." + config.Name
		body := fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, batch, max(expires, 0))
		go func() {
			for ctx.Err() == nil {
				_ = nc.PublishRequest(subject, inbox, body) // it floods
				mu.Lock()
				reply := last
				mu.Unlock()
				if reply != "" {
					_ = nc.Publish(reply, []byte(answer)) // the same answer again
				}
				wait := 100 * time.Millisecond
				if expires > 0 {
					wait = 2 * time.Millisecond
				}
				select {
				case <-again:
				case <-time.After(wait):
				}
			}
		}()
	}
	return nil
}

// hear opens many connections and makes many subscriptions on each.
func hear(_ context.Context, address string, conns, subs int, subject string) error {
	for i := range conns {
		nc, err := hostileConn(address)
		if err != nil {
			if i > 0 {
				return nil // disconnected by now
			}
			return err
		}
		for range subs {
			sub, err := nc.Subscribe(subject, func(*nats.Msg) {})
			if err != nil {
				return err
			}
			_ = sub.SetPendingLimits(100, 1<<20) // messages that do not fit are dropped
		}
	}
	return nil
}

func churn(ctx context.Context, address string) error {
	for range 2 * hostileConns {
		go func() {
			for ctx.Err() == nil {
				nc, err := nats.Connect(address, nats.UserInfo("pulse", "secret"), nats.NoReconnect())
				if err != nil {
					continue // too many connections
				}
				nc.Close()
			}
		}()
	}
	return nil
}

// asks sends a request without end, on four connections. rate is the number of requests a second; 0
// means as many as possible.
func asks(subject, body string, rate int) func(context.Context, string) error {
	return func(ctx context.Context, address string) error {
		for range 4 {
			nc, err := hostileConn(address)
			if err != nil {
				return err
			}
			inbox := nc.NewInbox()
			sub, err := nc.Subscribe(inbox, func(*nats.Msg) {})
			if err != nil {
				return err
			}
			_ = sub.SetPendingLimits(100, 1<<20) // messages that do not fit are dropped
			subjects := []string{subject}
			if strings.Contains(subject, "CONSUMER.LIST") {
				subjects = append(subjects, "$JS.API.CONSUMER.NAMES.PULSE", "$JS.API.CONSUMER.INFO.PULSE.nobody", "$JS.API.STREAM.LIST", "$JS.API.INFO")
			}
			go func() {
				const tick = 10 * time.Millisecond
				for ctx.Err() == nil {
					n := 100
					if rate > 0 {
						n = rate / 4 / int(time.Second/tick)
						time.Sleep(tick)
					}
					for i := range n {
						_ = nc.PublishRequest(subjects[i%len(subjects)], inbox, []byte(body)) // it floods
					}
				}
			}()
		}
		return nil
	}
}

func create(ctx context.Context, address string) error {
	for i := range 4 {
		nc, err := hostileConn(address)
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("made-%d-%d", i, n)
				config := jetstream.ConsumerConfig{Name: name, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: "pulse.readings.>", InactiveThreshold: time.Minute}
				if _, err := js.CreateConsumer(ctx, "PULSE", config); err == nil {
					_ = js.DeleteConsumer(ctx, "PULSE", name) // otherwise it expires by itself
				}
			}
		}()
	}
	return nil
}
