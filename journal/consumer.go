package journal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/internal/apijson"
)

// ErrNoConsumer means that no outside client has a consumer of that name.
var ErrNoConsumer = errors.New("there is no consumer of this name: GET /consumers lists them")

// Consumer is a consumer of an outside client. The JSON form is the API's.
type Consumer struct {
	Name    string `json:"name"`
	Durable bool   `json:"durable"`
	// Filters are the subjects it reads, all of them if there are none. They are never nil.
	Filters []string  `json:"filters"`
	Created time.Time `json:"created"`
	// LastUsed is when it was last given or acknowledged an event, or made.
	LastUsed time.Time `json:"last_used"`
	// Unread are the events that it was not given yet, AckPending those that it was given and that are
	// not acknowledged, of which there may be MaxAckPending. After AckWait they come again.
	Unread        uint64          `json:"unread"`
	AckPending    int             `json:"ack_pending"`
	MaxAckPending int             `json:"max_ack_pending"`
	AckWait       apijson.Seconds `json:"ack_wait"`
	// Waiting are the requests for events that wait for one.
	Waiting int `json:"waiting"`
	// InactiveThreshold is after how long without use it goes by itself.
	InactiveThreshold apijson.Seconds `json:"inactive_threshold"`
}

// MarshalJSON shows the times as the API does. It is json.Marshal that writes the > of a filter as
// \u003e, on which clients may depend.
func (c Consumer) MarshalJSON() ([]byte, error) {
	type plain Consumer // without this method
	c.Created, c.LastUsed = apijson.Time(c.Created), apijson.Time(c.LastUsed)
	return json.Marshal(plain(c))
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
		filters := append([]string{}, c.Config.FilterSubjects...)
		if c.Config.FilterSubject != "" {
			filters = []string{c.Config.FilterSubject}
		}
		list[i] = Consumer{
			Name: c.Name, Durable: durable(c), Filters: filters, Created: c.Created, LastUsed: used(c), Unread: c.NumPending,
			AckPending: c.NumAckPending, MaxAckPending: max(c.Config.MaxAckPending, 0), AckWait: apijson.Seconds(c.Config.AckWait),
			Waiting: c.NumWaiting, InactiveThreshold: apijson.Seconds(c.Config.InactiveThreshold),
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
