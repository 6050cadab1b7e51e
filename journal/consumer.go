package journal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrNoConsumer means that no outside client has a consumer of that name.
var ErrNoConsumer = errors.New("journal: there is no such consumer; pulse consumers lists them")

// Consumer is a consumer of an outside client.
type Consumer struct {
	Name    string
	Durable bool
	// Filters are the subjects it reads, all of them if there are none.
	Filters []string
	Created time.Time
	// LastUsed is when it was last given or acknowledged an event, or made.
	LastUsed time.Time
	// Unread are the events that it was not given yet, AckPending those that it was given and that are not acknowledged, of
	// which there may be MaxAckPending. After AckWait they come again.
	Unread                    uint64
	AckPending, MaxAckPending int
	AckWait                   time.Duration
	// Waiting are the requests for events that wait for one.
	Waiting int
	// InactiveThreshold is after how long without use it goes by itself.
	InactiveThreshold time.Duration
}

// Consumers lists the consumers of outside clients by name, also when outside clients are not let in. It fails with
// ErrUnavailable while the server is being restarted, and with ErrClosed.
func (j *Journal) Consumers(ctx context.Context) ([]Consumer, error) {
	run := j.runs.current()
	if run == nil {
		return nil, j.absent("consumers")
	}
	infos, err := outsideConsumers(ctx, run.js)
	if err != nil {
		return nil, &Error{Op: "consumers", Dir: j.o.Dir, Kind: ErrServer, Err: err}
	}
	list := make([]Consumer, len(infos))
	for i, c := range infos {
		filters := c.Config.FilterSubjects
		if c.Config.FilterSubject != "" {
			filters = []string{c.Config.FilterSubject}
		}
		list[i] = Consumer{
			Name: c.Name, Durable: durable(c), Filters: filters, Created: c.Created, LastUsed: used(c), Unread: c.NumPending,
			AckPending: c.NumAckPending, MaxAckPending: max(c.Config.MaxAckPending, 0), AckWait: c.Config.AckWait,
			Waiting: c.NumWaiting, InactiveThreshold: c.Config.InactiveThreshold,
		}
	}
	slices.SortFunc(list, func(a, b Consumer) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// DeleteConsumer deletes a consumer of an outside client, a durable one too; its place is lost. It fails with ErrNoConsumer
// if there is none, which it also says of the consumers of Pulse itself.
func (j *Journal) DeleteConsumer(ctx context.Context, name string) error {
	run := j.runs.current()
	if run == nil {
		return j.absent("consumers")
	}
	err := ErrNoConsumer
	if !own(name) {
		err = run.js.DeleteConsumer(ctx, streamName, name)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoConsumer), errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrInvalidConsumerName):
		return ErrNoConsumer
	}
	return &Error{Op: "consumers", Dir: j.o.Dir, Kind: ErrServer, Err: err}
}
