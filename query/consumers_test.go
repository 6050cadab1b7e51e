package query

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/nanopack/pulse/internal/apijson"
	"github.com/nanopack/pulse/journal/outside"
)

type fakeConsumers struct{}

var aConsumer = outside.Consumer{Name: "archive", Durable: true, Filters: []string{"pulse.readings.>"}, Created: testNow.Add(-time.Hour), LastUsed: testNow,
	Unread: 17, AckPending: 3, MaxAckPending: 1000, AckWait: apijson.Seconds(30 * time.Second), Waiting: 1, InactiveThreshold: apijson.Seconds(168 * time.Hour)}

func (fakeConsumers) Consumers(context.Context) ([]outside.Consumer, error) {
	return []outside.Consumer{aConsumer, {Name: "x", Filters: []string{}}}, nil
}

func (fakeConsumers) DeleteConsumer(_ context.Context, name string) error {
	if name != "archive" {
		return noConsumer{}
	}
	return nil
}

// noConsumer is outside.ErrNoConsumer with another text.
type noConsumer struct{}

func (noConsumer) Error() string        { return "no such consumer: not found" }
func (noConsumer) Is(target error) bool { return target == outside.ErrNoConsumer }

func TestConsumers(t *testing.T) {
	w := newWorld(t, nil)
	w.Start()
	a := w.get(t, "/consumers")
	for _, part := range []string{`"name":"archive"`, `"unread":17`, `"ack_wait":30`, `"inactive_threshold":604800`, `"filters":[]`} {
		a.contains(t, 200, part)
	}
	b, err := json.Marshal(aConsumer)
	if err != nil {
		t.Fatal(err)
	}
	var back outside.Consumer
	if err := json.Unmarshal(b, &back); err != nil || back.AckWait != aConsumer.AckWait || !reflect.DeepEqual(back.Filters, aConsumer.Filters) ||
		!back.LastUsed.Equal(testNow.Truncate(time.Second)) {
		t.Errorf("%+v %v", back, err)
	}
	w.do(t, "DELETE", "/consumers/archive", "").contains(t, 200, "Success")
	w.do(t, "DELETE", "/consumers/other", "").contains(t, 404, "no such consumer")
	for _, path := range []string{"/consumers", "/consumers/archive"} {
		if a := w.from("192.0.2.9:1", path, "wrong"); a.Code != 401 {
			t.Errorf("%s without the token: %d", path, a.Code)
		}
	}
}
