package outside

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// Bounds on what unacknowledged messages cost. The server walks over all pending messages of a
// consumer once an ack_wait, under the consumer's lock, for which a write to the stream waits. It
// does so whether or not anybody pulls, and again after a restart. So the walk must be short and
// rare.
const (
	minAckWait    = time.Second // and of each backoff
	maxAckPending = 1000        // the server's default
	maxBackOff    = 16
	// maxRedeliveries bounds how many messages a second come due again, for all consumers together:
	// 256 consumers with the server's defaults (1,000 pending, 30 s) cause 8,533.
	maxRedeliveries = 10_000

	// The server's ack_wait if none is given.
	defaultAckWait = 30 * time.Second
)

// redeliveries is how many messages a second may come due again on a consumer from which somebody
// pulls and never acknowledges. acks is false for one without acknowledgements.
func redeliveries(acks bool, pending int, wait time.Duration, backoff []time.Duration) float64 {
	if !acks {
		return 0
	}
	if pending <= 0 {
		pending = maxAckPending
	}
	if wait <= 0 {
		wait = defaultAckWait
	}
	if len(backoff) > 0 {
		wait = slices.Min(backoff)
	}
	return float64(pending) / wait.Seconds()
}

// causes is redeliveries of a consumer that is there.
func causes(c jetstream.ConsumerConfig) float64 {
	return redeliveries(c.AckPolicy != jetstream.AckNonePolicy, c.MaxAckPending, c.AckWait, c.BackOff)
}

// boundConsumers brings the consumers of outside clients within the bounds that new ones are held
// to: those that were made under wider ones would go on holding up the stream. Each keeps its name
// and its place; what was delivered from one and not acknowledged comes again. One that cannot be
// bounded is deleted.
func (r *run) boundConsumers() error {
	list, err := listConsumers(r.ctx, r.JetStream)
	if err != nil {
		return fmt.Errorf("listing the consumers of outside clients: %w", err)
	}
	total := 0.0
	for _, c := range list {
		total += causes(bounded(c.Config, 1))
	}
	for _, c := range list {
		if err := r.boundConsumer(c, bounded(c.Config, max(1, total/maxRedeliveries))); err != nil {
			r.c.log.Error("a consumer of an outside client is deleted: it would hold up the journal, and cannot be changed",
				"consumer", c.Name, "err", err)
			if err := r.JetStream.DeleteConsumer(r.ctx, journal.StreamName, c.Name); err != nil {
				return fmt.Errorf("deleting the consumer %s of an outside client: %w", c.Name, err)
			}
		}
	}
	return nil
}

// bounded is the configuration within the bounds of one consumer, with its times made longer by a
// factor.
func bounded(c jetstream.ConsumerConfig, factor float64) jetstream.ConsumerConfig {
	if c.AckPolicy == jetstream.AckNonePolicy {
		return c
	}
	longer := func(d time.Duration) time.Duration {
		return time.Duration(float64(max(d, minAckWait)) * factor).Round(time.Millisecond)
	}
	if c.MaxAckPending <= 0 || c.MaxAckPending > maxAckPending {
		c.MaxAckPending = maxAckPending
	}
	if c.AckWait > 0 {
		c.AckWait = longer(c.AckWait)
	}
	c.BackOff = slices.Clone(c.BackOff[:min(len(c.BackOff), maxBackOff)])
	for i, d := range c.BackOff {
		c.BackOff[i] = longer(d)
	}
	return c
}

// boundConsumer changes a consumer to what it should be, if it is not.
func (r *run) boundConsumer(c *jetstream.ConsumerInfo, want jetstream.ConsumerConfig) error {
	have := c.Config
	if have.AckWait != want.AckWait || have.MaxAckPending != want.MaxAckPending || !slices.Equal(have.BackOff, want.BackOff) {
		if _, err := r.JetStream.UpdateConsumer(r.ctx, journal.StreamName, want); err != nil {
			return err
		}
	}
	if have.AckPolicy == jetstream.AckNonePolicy || c.NumAckPending <= want.MaxAckPending {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, filterTimeout)
	defer cancel()
	// What is pending stays so until it is acknowledged, whatever max_ack_pending says. A reset to
	// the place up to which everything is acknowledged forgets it.
	m, err := r.JetStream.Conn().RequestWithContext(ctx, fmt.Sprintf(server.JSApiConsumerResetT, journal.StreamName, c.Name), nil)
	if err != nil {
		return err
	}
	var answer server.ApiResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	return answer.ToError()
}
