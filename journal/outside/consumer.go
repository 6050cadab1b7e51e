package outside

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/journal"
)

// Limits of one consumer of an outside client.
const (
	maxFilters        = 64
	maxWaiting        = 512
	maxPriorityGroups = 16
	maxEphemeral      = time.Hour // that it may be idle; the server's default is 5 s
)

// create makes a consumer for an outside client, or changes one of theirs.
func (f *filter) create(m *nats.Msg) {
	var req server.CreateConsumerRequest
	if err := json.Unmarshal(m.Data, &req); err != nil {
		f.refuse(m, 400, "the request is no consumer: "+err.Error())
		return
	}
	name := consumerName(m.Subject)
	for _, n := range []string{name, req.Config.Name, req.Config.Durable} {
		if own(n) {
			f.refuse(m, 403, "names that begin with "+journal.ReaderConsumers+" are taken; choose another")
			return
		}
	}
	if req.Stream != journal.StreamName {
		f.refuse(m, 400, "stream_name must be "+journal.StreamName)
		return
	}
	if err := f.permit(&req.Config); err != nil {
		f.refuse(m, 400, err.Error())
		return
	}
	data, ok := f.encode(m, &req)
	if !ok {
		return
	}
	f.creating.Lock()
	defer f.creating.Unlock()
	if _, ok := f.waiting(m); !ok {
		return // nor does anybody go for it
	}
	ctx, cancel := context.WithTimeout(f.r.ctx, filterTimeout)
	defer cancel()
	c := &req.Config
	rate := redeliveries(c.AckPolicy != server.AckNone, c.MaxAckPending, c.AckWait, c.BackOff)
	if err := f.room(ctx, cmp.Or(name, c.Name, c.Durable), rate); err != nil {
		f.refuse(m, 429, err.Error())
		return
	}
	if answer := f.ask(ctx, m, data); answer != nil && req.Config.Durable != "" {
		f.sync(answer)
	}
}

// sync syncs the files of a durable consumer that was just made: the server does not, and a place
// that was promised should not be lost with the power.
func (f *filter) sync(answer []byte) {
	var made struct {
		Name  string          `json:"name"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(answer, &made); err != nil || made.Name == "" || made.Error != nil {
		return // it was refused
	}
	if err := f.r.SyncConsumer(made.Name); err != nil {
		f.r.c.log.Warn("a durable consumer of an outside client could not be synced", "consumer", made.Name, "err", err)
	}
}

// consumerName is the name in the subject of a create request: after the stream's, in both of its
// forms; "" if the server is to choose.
func consumerName(subject string) string {
	_, rest, _ := strings.Cut(subject, "CREATE."+journal.StreamName)
	name, _, _ := strings.Cut(strings.TrimPrefix(rest, "."), ".")
	return name
}

// permit returns what is not allowed in a consumer, and fills in what the server would leave
// unlimited. What is asked for is never changed in silence.
func (f *filter) permit(c *server.ConsumerConfig) error {
	switch {
	case c.DeliverSubject != "" || c.DeliverGroup != "" || c.FlowControl || c.Heartbeat != 0 || c.RateLimit != 0:
		return errors.New("push consumers are not offered here; pull instead (no deliver_subject)")
	case c.AckPolicy < server.AckNone || c.AckPolicy > server.AckExplicit:
		return errors.New("ack_policy must be none, all or explicit")
	case strings.Trim(c.SampleFrequency, "0%") != "" || c.Direct || c.Sourcing || c.PauseUntil != nil && !c.PauseUntil.IsZero():
		return errors.New("sample_freq, direct, sourcing and pause_until are not offered here")
	case c.Replicas < 0 || c.Replicas > 1:
		return errors.New("num_replicas must be 0 or 1")
	case len(c.FilterSubjects) > maxFilters:
		return fmt.Errorf("at most %d filter_subjects", maxFilters)
	case len(c.PriorityGroups) > maxPriorityGroups:
		return fmt.Errorf("at most %d priority_groups", maxPriorityGroups)
	case c.MaxWaiting < 0 || c.MaxWaiting > maxWaiting:
		return fmt.Errorf("max_waiting must be at most %d", maxWaiting)
	case c.AckPolicy != server.AckNone && (c.MaxAckPending < 0 || c.MaxAckPending > maxAckPending):
		return fmt.Errorf("max_ack_pending must be from 1 to %d", maxAckPending)
	case c.AckWait != 0 && c.AckWait < minAckWait:
		return fmt.Errorf("ack_wait must be at least %v", minAckWait)
	case len(c.BackOff) > maxBackOff:
		return fmt.Errorf("at most %d backoff", maxBackOff)
	}
	for _, d := range c.BackOff {
		if d < minAckWait {
			return fmt.Errorf("each backoff must be at least %v", minAckWait)
		}
	}
	idle := maxEphemeral
	if c.Durable != "" {
		// Longer than that, and nothing of where it stood is left.
		if idle = f.r.Retention; c.InactiveThreshold == 0 {
			c.InactiveThreshold = idle
		}
	}
	if c.InactiveThreshold < 0 || c.InactiveThreshold > idle {
		return fmt.Errorf("inactive_threshold must be at most %v", idle)
	}
	return nil
}

// room makes room for one more consumer, called name if it has a name by now, that may cause this
// many redeliveries a second. Ephemeral ones that nobody pulls from go for it, the longest idle
// first.
func (f *filter) room(ctx context.Context, name string, rate float64) error {
	list, err := listConsumers(ctx, f.r.JetStream)
	if err != nil {
		return fmt.Errorf("the consumers cannot be counted: %w; ask again", err)
	}
	count := 1
	var idle []*jetstream.ConsumerInfo
	for _, c := range list {
		if c.Name == name {
			continue // it is there: an update, or the same again
		}
		count++
		rate += causes(c.Config)
		if !durable(c) && c.NumWaiting == 0 {
			idle = append(idle, c)
		}
	}
	slices.SortFunc(idle, func(a, b *jetstream.ConsumerInfo) int { return used(a).Compare(used(b)) })
	for _, c := range idle {
		if count <= f.r.c.o.MaxConsumers && rate <= maxRedeliveries {
			return nil
		}
		f.r.c.log.Debug("an idle consumer of an outside client goes for another one", "consumer", c.Name)
		err := f.r.JetStream.DeleteConsumer(ctx, journal.StreamName, c.Name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("an idle consumer, %s, could not be removed to make room: %w", c.Name, err)
		}
		count--
		rate -= causes(c.Config)
	}
	if count > f.r.c.o.MaxConsumers {
		return fmt.Errorf("maximum consumers limit reached: %d, and none of them is idle and ephemeral", f.r.c.o.MaxConsumers)
	}
	if rate > maxRedeliveries {
		return fmt.Errorf("all consumers together may cause %d redeliveries a second (max_ack_pending / ack_wait), with this one it is %.0f: "+
			"ask for a longer ack_wait or a smaller max_ack_pending", maxRedeliveries, rate)
	}
	return nil
}
