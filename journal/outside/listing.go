package outside

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal"
)

// ErrNoConsumer means that no client has a consumer of that name.
var ErrNoConsumer = errors.New("there is no consumer of this name: GET /consumers lists them")

// Consumer is a consumer of a client. The JSON form is the API's.
type Consumer struct {
	Name    string `json:"name"`
	Durable bool   `json:"durable"`
	// Filters are the subjects it reads, all of them if there are none. They are never nil.
	Filters []string  `json:"filters"`
	Created time.Time `json:"created"`
	// LastUsed is when it last was given or acknowledged an event, or was made.
	LastUsed time.Time `json:"last_used"`
	// Unread are the events that it was not given yet. AckPending are those that it was given and
	// that are not acknowledged, of which there may be MaxAckPending. They come again after
	// AckWait.
	Unread        uint64          `json:"unread"`
	AckPending    int             `json:"ack_pending"`
	MaxAckPending int             `json:"max_ack_pending"`
	AckWait       apijson.Seconds `json:"ack_wait"`
	// Waiting are the requests for events that wait for one.
	Waiting int `json:"waiting"`
	// InactiveThreshold is after how long without use the server deletes it.
	InactiveThreshold apijson.Seconds `json:"inactive_threshold"`
}

// MarshalJSON shows the times as the API does. It calls json.Marshal, which writes the > of a
// filter as \u003e, because clients may depend on that.
func (c Consumer) MarshalJSON() ([]byte, error) {
	type plain Consumer // without this method
	c.Created, c.LastUsed = apijson.Time(c.Created), apijson.Time(c.LastUsed)
	return json.Marshal(plain(c))
}

// Consumers lists the consumers of clients by name, also when nobody is let in. It fails with
// [journal.ErrUnavailable] while the server does not run.
func (c *Clients) Consumers(ctx context.Context) ([]Consumer, error) {
	r := c.current()
	if r == nil {
		return nil, &journal.Error{Op: "consumers", Kind: journal.ErrUnavailable}
	}
	infos, err := listConsumers(ctx, r.JetStream)
	if err != nil {
		return nil, &journal.Error{Op: "consumers", Dir: r.Dir, Kind: journal.ErrServer, Err: err}
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

// DeleteConsumer deletes a consumer of a client, a durable one too; its position is lost. It fails
// with [ErrNoConsumer] if there is none, and for the consumers of Pulse itself.
func (c *Clients) DeleteConsumer(ctx context.Context, name string) error {
	r := c.current()
	if r == nil {
		return &journal.Error{Op: "consumers", Kind: journal.ErrUnavailable}
	}
	err := ErrNoConsumer
	if !own(name) {
		err = r.JetStream.DeleteConsumer(ctx, journal.StreamName, name)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoConsumer), errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrInvalidConsumerName):
		return ErrNoConsumer
	}
	return &journal.Error{Op: "consumers", Dir: r.Dir, Kind: journal.ErrServer, Err: err}
}

// listConsumers lists the consumers of clients: those on the stream that are not of the journal's
// readers.
func listConsumers(ctx context.Context, js jetstream.JetStream) ([]*jetstream.ConsumerInfo, error) {
	stream, err := js.Stream(ctx, journal.StreamName)
	if err != nil {
		return nil, err
	}
	var list []*jetstream.ConsumerInfo
	lister := stream.ListConsumers(ctx)
	for c := range lister.Info() {
		if !own(c.Name) {
			list = append(list, c)
		}
	}
	return list, lister.Err()
}

// own reports whether a consumer is of one of the journal's readers.
func own(consumer string) bool { return strings.HasPrefix(consumer, journal.ReaderConsumers) }

func durable(c *jetstream.ConsumerInfo) bool { return c.Config.Durable != "" }

// used is when the consumer last had something to do.
func used(c *jetstream.ConsumerInfo) time.Time {
	at := c.Created
	for _, last := range []*time.Time{c.Delivered.Last, c.AckFloor.Last} {
		if last != nil && last.After(at) {
			at = *last
		}
	}
	return at
}
